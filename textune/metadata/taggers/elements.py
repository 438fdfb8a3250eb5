"""Which HTML elements break lines, take a space, or are left out with what they contain."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


BLOCK = _names(
    "address article aside blockquote body button canvas caption col colgroup dd div dl dt embed fieldset figcaption"
    " figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr li map noscript object ol output p pre progress section"
    " table tbody textarea tfoot th thead tr ul video"
)
"""A line ends before and after them."""
SPACED = _names("cite details datalist iframe img input label legend optgroup q select summary td time")
"""A space stands before and after them, unless a line ends there."""
DROPPED = _names("script style header iframe footer form title")
"""Left out with all that they contain."""
UNREAD = _names("script style iframe title")
"""Of these, those whose contents are no text of the page."""
DROPPED_IF_SHORT = _names("body div p section table ul ol dl")
"""Left out with all that they contain where that is at most SHORT characters of text."""
SHORT = 64
FOLDED = "div"
"""An element whose only child element is of the same kind takes that one's place."""
BREAK = "br"
"""Becomes a line end."""
VERBATIM = "pre"
"""White space within it stays as it is."""
PARAGRAPHS = _names(
    "p div li ul ol hr pre blockquote dt dd dl menu figcaption figure"
    " h1 h2 h3 h4 h5 h6 nav article main section address aside"
)
"""Those at whose ends a paragraph ends."""
VOID = _names("area base br col embed hr img input link meta source track wbr")
"""Have no end tag."""
MAY_STAY_OPEN = _names("p li dt dd option optgroup tr td th thead tbody tfoot colgroup caption html head body")
"""Have an end tag that may be left out, and do not nest by themselves."""
