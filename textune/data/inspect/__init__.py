"""Inspects rows and files, outside the main flow: what is wrong with the data, and how undescribed files can be read."""
