"""Web pages: the article without navigation, formulas in plain characters."""

import re
from collections.abc import Iterator
from pathlib import Path

import trafilatura
from lxml import etree
from lxml import html as lxml_html

from server.ingestion.extraction.offline import lowered, raised
from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Method, Page
from server.ingestion.extraction.plain import decode, paged

_DECLARED_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w-]{1,40})", re.IGNORECASE)


def read(path: Path, limits: Limits) -> Iterator[Page]:
    """Yield the main text of a saved web page. Raises ExtractionFailed."""
    text = main_text(decode_html(path.read_bytes()))
    if len(text) > limits.characters:
        raise ExtractionFailed(Failure.TOO_LARGE, f"{len(text)} characters, {limits.characters} allowed")
    yield from paged(text, limits, Method.MARKUP)


def main_text(markup: str) -> str:
    """Return the article of a page as plain text; the text of its whole body when no article is found."""
    tree = _tree(markup)
    _keep_formulas(tree)
    article = trafilatura.extract(
        tree, output_format="txt", include_comments=False, include_tables=True, favor_recall=True, deduplicate=False
    )
    return str(article) if article else _body_text(tree)


def title(markup: str) -> str:
    """Return the title of a page, or an empty string."""
    return " ".join(str(_tree(markup).findtext(".//title") or "").split())


def decode_html(content: bytes) -> str:
    """Decode a page by its own declaration where that works, else by detection."""
    declared = _DECLARED_CHARSET.search(content[:4096])
    if declared:
        try:
            return content.decode(declared.group(1).decode("ascii"))
        except (LookupError, UnicodeDecodeError):
            pass
    return decode(content)


def _tree(markup: str) -> lxml_html.HtmlElement:
    parser = lxml_html.HTMLParser(no_network=True, huge_tree=False, recover=True, remove_comments=True)
    try:
        tree = lxml_html.document_fromstring(markup.replace("\x00", "") or "<html/>", parser=parser)
    except (etree.ParserError, ValueError) as error:
        raise ExtractionFailed(Failure.BROKEN_FILE, "no markup") from error
    return tree


def _keep_formulas(tree: lxml_html.HtmlElement) -> None:
    """Write <sup> and <sub> as characters: the plain text of "x<sup>2</sup>" would be "x2"."""
    for tag, written in (("sup", raised), ("sub", lowered)):
        for element in tree.iter(tag):
            element.text = written("".join(element.itertext()))
            for child in list(element):
                element.remove(child)
        etree.strip_tags(tree, tag)


def _body_text(tree: lxml_html.HtmlElement) -> str:
    etree.strip_elements(tree, "script", "style", "noscript", "template", "head", with_tail=False)
    return "\n".join(line for text in tree.itertext() if (line := " ".join(text.split())))
