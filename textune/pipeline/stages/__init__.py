"""AzureML's stages around fine-tuning: a model imported, rows checked, split and encoded, a model converted."""
