from .console import print_report as print_report
from .markdown import write_markdown as write_markdown
from .wording import answer as answer
from .wording import headline as headline
from .wording import number as number
from .wording import shorten as shorten
