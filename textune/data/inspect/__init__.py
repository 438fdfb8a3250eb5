"""Rows or files in, what is wrong with them out, or how files that nobody has described can be read; beside the
flow."""
