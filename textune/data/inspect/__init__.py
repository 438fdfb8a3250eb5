"""Looks at rows and files, beside the flow: what is wrong with the data, and how files nobody described can be read."""
