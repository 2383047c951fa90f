"""Text out of PDFs: word recall and word order against known texts, what else is read, and pages left out."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from evals.report import Better, Row
from server.ingestion.chunking import ChunkSize, PageText, chunk_pages
from server.ingestion.extraction import ocr
from server.ingestion.extraction.page import Limits, Method, Page
from server.ingestion.extraction.pdf import PdfFile, arabic_share
from server.ingestion.judging import JudgedPage, PageVerdict, judge
from server.text.language import Language

TRUTH = ("p10", "p11", "p12", "p13", "p14")
"""Paragraphs of xquad_ar that the typeset files hold and the development part has."""

ORDER_LIMIT = 0.96
RECALL_LIMIT = 0.97
SCAN_RECALL_LIMIT = 0.90
REJECTED_LIMIT = 0.05
SIZES = {
    Language.FRENCH: ChunkSize(512, 64),
    Language.ARABIC: ChunkSize(384, 48),
    Language.HASSANIYA: ChunkSize(384, 48),
}
_TYPESET = ("ar_typeset_amiri", "ar_typeset_chromium")
_SCAN = "ar_scan_xquad_page"
_BROKEN_MAP = "ar_opentaqafa_ccbook"
_MARKS = re.compile("[\u064b-\u0652\u0670\u0640]")
_WORD = re.compile(r"\w+")


def report(data: Path) -> list[Row]:
    """Read every PDF of the folder; score those whose text is known."""
    truth = _truth(data)
    rows: list[Row] = []
    for path in sorted((data / "pdf").glob("*.pdf")):
        pages = _read(path)
        judged = judge(pages)
        rows.extend(_rows(path.stem.partition("_CC")[0], pages, judged, truth))
    return rows


def _rows(name: str, pages: Sequence[Page], judged: Sequence[JudgedPage], truth: Sequence[str]) -> list[Row]:
    text = "\n".join(page.text for page in judged)
    indexed = [page for page in judged if page.verdict is PageVerdict.INDEXED]
    texts = [PageText(page.number, page.text, page.language) for page in indexed]
    chunks = sum(1 for _ in chunk_pages(UUID(int=0), texts, SIZES))
    left = Counter(page.verdict for page in judged if page.verdict is not PageVerdict.INDEXED)
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(left.items()))
    note = f"{len(indexed)} of {len(judged)} pages" + (f"; {told}" if told else "")
    rows = [Row(f"{name}: chunks", chunks, note=note)]
    if name in _TYPESET:
        recall, order = score(text, truth)
        return [
            *rows,
            Row(f"{name}: word recall", recall, RECALL_LIMIT),
            Row(f"{name}: word order", order, ORDER_LIMIT),
        ]
    if name == _SCAN:
        # The scan holds the first page only: a paragraph of which little was read is not on it.
        shown = [paragraph for paragraph in truth if score(text, [paragraph])[0] > 0.6]
        limit = SCAN_RECALL_LIMIT if ocr.available() else None
        return [*rows, Row(f"{name}: word recall (OCR)", score(text, shown)[0], limit)]
    if name == _BROKEN_MAP:
        trusted = {page.number for page in pages if page.method is not Method.OCR and arabic_share(page.text) > 0}
        silent = sum(page.number in trusted for page in indexed)
        return [*rows, Row(f"{name}: pages of a broken map indexed", silent, 0, Better.LOWER)]
    return [*rows, Row(f"{name}: pages left out", 1 - len(indexed) / len(judged), REJECTED_LIMIT, Better.LOWER)]


def score(text: str, truth: Sequence[str]) -> tuple[float, float]:
    """Return the share of the true words that were read, and of their neighbouring pairs that are in order."""
    words = _words(text)
    known, pairs = set(words), set(pairwise(words))
    true_words = [_words(paragraph) for paragraph in truth]
    true_pairs = [pair for one in true_words for pair in pairwise(one)]
    all_words = [word for one in true_words for word in one]
    recall = sum(word in known for word in all_words) / max(1, len(all_words))
    return recall, sum(pair in pairs for pair in true_pairs) / max(1, len(true_pairs))


def _read(path: Path) -> list[Page]:
    return list(PdfFile(path, Limits()).pages())


def _truth(data: Path) -> list[str]:
    paragraphs = json.loads((data / "xquad_ar.json").read_text(encoding="utf-8"))["paragraphs"]
    texts = {paragraph["id"]: paragraph["text"] for paragraph in paragraphs}
    return [texts[name] for name in TRUTH if name in texts]


def _words(text: str) -> list[str]:
    return _WORD.findall(_MARKS.sub("", unicodedata.normalize("NFKC", text)))
