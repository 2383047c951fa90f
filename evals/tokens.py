"""Tokens per character and per word, and what Arabic costs against the same content in French and English."""

import json
from collections.abc import Sequence
from pathlib import Path

from evals.corpora import lines, pool
from evals.report import Row
from server.text.tokens import count


def _rows(name: str, texts: Sequence[str]) -> list[Row]:
    tokens = sum(map(count, texts))
    return [
        Row(f"tokens per character: {name}", tokens / sum(map(len, texts))),
        Row(f"tokens per word: {name}", tokens / sum(len(text.split()) for text in texts)),
    ]


def report(data: Path) -> list[Row]:
    """Measure cl100k_base, the encoding that prices and chunk sizes are counted in."""
    rights = json.loads((data / "udhr_ar_fr.json").read_text("utf-8"))
    arabic, english = (pool(data, name).paragraphs for name in ("xquad_ar", "xquad_en"))
    dialect = lines(data / "hassaniya_dah.jsonl")
    return [
        *_rows("French (PIAF)", pool(data, "piaf_fr").paragraphs),
        *_rows("Arabic (XQuAD)", arabic),
        *_rows("Arabic (ARCD)", pool(data, "arcd_ar").paragraphs),
        *_rows("Hassaniya, Arabic letters (DAH)", [row["mey_ar"] for row in dialect]),
        *_rows("Hassaniya, Latin letters (DAH)", [row["mey_lat"] for row in dialect]),
        Row("tokens, Arabic over French, same content (UDHR)", _total(rights["ar"]) / _total(rights["fr"])),
        Row("tokens, Arabic over English, same content (XQuAD)", _total(arabic) / _total(english)),
    ]


def _total(texts: Sequence[str]) -> int:
    return sum(map(count, texts))
