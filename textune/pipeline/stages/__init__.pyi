from .converting import convert_model as convert_model
