from .fields import fields_text as fields_text
from .html import Attributes as Attributes
from .render import render as render
from .renderers import renderer_of as renderer_of
