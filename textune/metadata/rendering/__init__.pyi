from .fields import fields_text as fields_text
from .html import Attributes as Attributes
from .prompt import prompt_section as prompt_section
from .prompt import render_prompt as render_prompt
from .render import render as render
from .renderers import renderer_of as renderer_of
