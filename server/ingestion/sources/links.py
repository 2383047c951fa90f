"""Where a site's pages are: its sitemaps and the links on its pages. Pure."""

from lxml import etree
from lxml import html as lxml_html

MAX_LINKS = 5_000
_LOCATION = "{*}loc"
_PARSER_OPTIONS = {"resolve_entities": False, "no_network": True, "huge_tree": False, "recover": True}


def sitemap(body: bytes) -> tuple[list[str], list[str]]:
    """Return the pages and the further sitemaps that a sitemap names; nothing for what is no sitemap."""
    try:
        root = etree.fromstring(body, parser=etree.XMLParser(**_PARSER_OPTIONS))
    except (etree.XMLSyntaxError, ValueError):
        return [], []
    if root is None or not isinstance(root.tag, str):
        return [], []
    found = [text for entry in root.iterfind(f"*/{_LOCATION}") if (text := (entry.text or "").strip())][:MAX_LINKS]
    return ([], found) if etree.QName(root).localname == "sitemapindex" else (found, [])


def on_page(markup: str) -> list[str]:
    """Return the addresses that a page links to, in order, each once."""
    parser = lxml_html.HTMLParser(no_network=True, recover=True)
    try:
        tree = lxml_html.document_fromstring(markup or "<html/>", parser=parser)
    except (etree.ParserError, ValueError):
        return []
    found = (str(link).strip() for link in tree.xpath("//a/@href"))
    wanted = (link for link in found if link and not link.startswith(("#", "javascript:", "mailto:", "tel:", "data:")))
    return list(dict.fromkeys(wanted))[:MAX_LINKS]
