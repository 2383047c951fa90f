"""Typesets the sample lessons: every `.md` in this folder becomes a PDF. `python samples/typeset.py`"""

import html
import re
from pathlib import Path

from weasyprint import HTML

FOLDER = Path(__file__).parent
_STYLE = """
@page { size: A4; margin: 22mm 20mm; @bottom-center { content: counter(page); font: 9pt "DejaVu Serif"; } }
body { font: 11pt/1.5 "DejaVu Serif", "Noto Naskh Arabic"; text-align: justify; }
[dir=rtl] { font: 12pt/1.7 "Noto Naskh Arabic", "DejaVu Serif"; }
h1 { font-size: 1.6em; text-align: start; } h2 { font-size: 1.2em; text-align: start; margin-top: 1.2em; }
"""
_ARABIC = re.compile("[\u0621-\u064a]")


def markup(text: str) -> str:
    """Return a lesson as an HTML page: `#` and `##` are headings, blank lines part paragraphs."""
    arabic = bool(_ARABIC.search(text.splitlines()[0]))
    blocks = "\n".join(_block(block) for block in text.strip().split("\n\n"))
    language, direction = ("ar", "rtl") if arabic else ("fr", "ltr")
    return (
        f'<html lang="{language}"><head><meta charset="utf-8"><style>{_STYLE}</style></head>'
        f'<body dir="{direction}">{blocks}</body></html>'
    )


def _block(block: str) -> str:
    marks, _, content = block.partition(" ")
    if marks in ("#", "##"):
        return f"<h{len(marks)}>{html.escape(content)}</h{len(marks)}>"
    return f"<p>{html.escape(block)}</p>"


def main() -> None:
    """Make all PDFs."""
    for lesson in sorted(FOLDER.glob("*.md")):
        if lesson.name != "README.md":
            HTML(string=markup(lesson.read_text(encoding="utf-8"))).write_pdf(lesson.with_suffix(".pdf"))


if __name__ == "__main__":
    main()
