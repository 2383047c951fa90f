"""The page check: valid pages must pass, garbage must not."""

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from evals.corpora import pool
from evals.duplicates import TEMPLATES
from evals.report import Better, Row
from server.text.pagequality import inspect, map_is_broken


def _reversed(text: str, _: random.Random) -> str:
    return " ".join(word[::-1] for word in text.split())


def _shuffled(text: str, rng: random.Random) -> str:
    return " ".join("".join(rng.sample(word, len(word))) for word in text.split())


def _mojibake(text: str, _: random.Random) -> str:
    return text.encode("utf-8").decode("cp1252", "replace")


def _private_use(text: str, _: random.Random) -> str:
    return re.sub(r"\w", lambda match: chr(0xE000 + ord(match[0]) % 0x400), text)


DAMAGE: dict[str, Callable[[str, random.Random], str]] = {
    "words reversed": _reversed,
    "letters shuffled": _shuffled,
    "UTF-8 read as cp1252": _mojibake,
    "private-use glyphs": _private_use,
}


def _rates(name: str, texts: Sequence[str]) -> list[Row]:
    rng = random.Random(1)
    refused = sum(not inspect(text).valid for text in texts) / len(texts)
    rows = [Row(f"{name}: valid pages refused", refused, 0.05, Better.LOWER, f"of {len(texts)}")]
    for label, damage in DAMAGE.items():
        if label == "words reversed" and not name.startswith("Arabic"):
            continue
        caught = sum(not inspect(damage(text, rng)).valid for text in texts) / len(texts)
        rows.append(Row(f"{name}: {label}, caught", caught, 0.95))
    return rows


def _sheets(count: int = 40) -> list[str]:
    """Sheets of twelve exercises of one template each, on lines of their own or in one paragraph."""
    rng = random.Random(3)
    return [
        separator.join(
            f"{number}) " + template.format(**{name: rng.randrange(2, 99) for name in "abcd"})
            for number in range(1, 13)
        )
        for template in TEMPLATES
        for separator in ("\n", " ")
        for _ in range(count)
    ]


REPEATED = (
    "Accueil Cours Exercices Annales Forum Contact Inscription",
    "Ministère de l'Éducation nationale - Lycée - Série D - Page {number} sur 120",
    "Cliquez ici pour télécharger le fichier numéro {number} du cours de mathématiques",
    "الصفحة {number} من كتاب الرياضيات للسنة السابعة من التعليم الثانوي",
)


def _repeated() -> list[str]:
    """Navigation and running heads, line after line."""
    return ["\n".join(line.format(number=number) for number in range(1, 41)) for line in REPEATED]


def report(data: Path) -> list[Row]:
    """Measure refusals of valid paragraphs and catches of damaged ones."""
    sheets, repeated = _sheets(), _repeated()
    refused = sum(not inspect(text).valid for text in sheets) / len(sheets)
    caught = sum(not inspect(text).valid for text in repeated) / len(repeated)
    rows = [
        Row("exercise sheets: valid pages refused", refused, 0.05, Better.LOWER, f"of {len(sheets)}"),
        Row("boilerplate: repeated lines, caught", caught, 1.0),
    ]
    for name, language in (("xquad_ar", "Arabic"), ("arcd_ar", "Arabic (native)"), ("piaf_fr", "French")):
        texts = [text for text in pool(data, name).paragraphs if len(text.split()) >= 30]
        rows += _rates(language, texts)
        rows.append(Row(f"{language}: whole set taken for a broken map", map_is_broken(texts), 0, Better.LOWER))
    return rows
