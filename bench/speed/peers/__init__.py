"""Worker processes that drive everything textune is compared with; nothing of textune is imported here."""
