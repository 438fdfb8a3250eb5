from .html import Attributes as Attributes
from .prefix import prefix_text as prefix_text
from .render import render as render
from .renderers import renderer_of as renderer_of
