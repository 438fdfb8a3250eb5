from .slicing import content_numbers as content_numbers
