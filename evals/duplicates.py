"""Near-duplicates: edited copies must be found, different texts and exercises with other numbers must not."""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

from evals.corpora import pool
from evals.report import Better, Row
from server.text.figures import same_figures
from server.text.nearduplicate import (
    CANDIDATE_DISTANCE,
    DUPLICATE_JACCARD,
    distance,
    is_duplicate,
    jaccard,
    shingles,
    simhash,
)

Edit = Callable[[str, random.Random], str]
PARAGRAPHS_A_PAGE = 4
SAMPLE = 120


def _typos(share: float, at_least: int) -> Edit:
    def edit(text: str, rng: random.Random) -> str:
        letters = list(text)
        alphabet = [character for character in set(text) if character.isalpha()]
        for _ in range(max(at_least, round(share * len(text)))):
            letters[rng.randrange(len(letters))] = rng.choice(alphabet)
        return "".join(letters)

    return edit


def _swap_words(text: str, rng: random.Random) -> str:
    words = text.split()
    at = rng.randrange(len(words) - 1)
    words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def _marks(text: str, rng: random.Random) -> str:
    """Add vowel marks to Arabic letters, take accents from Latin ones."""
    if re.search("[\u0620-\u064a]", text):
        return "".join(
            c + (rng.choice("\u064e\u064f\u0650") if "\u0620" < c <= "\u064a" and rng.random() < 0.4 else "")
            for c in text
        )
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


EDITS: dict[str, Edit] = {
    "punctuation": lambda text, _: re.sub(r"[.,;:!?؟،؛]", "", text),
    "white space": lambda text, _: re.sub(" ", "  \n", text),
    "accents, vowel marks": _marks,
    "hamza, ta marbuta, case": lambda text, _: text.translate(str.maketrans("أإآة", "اااه")).upper(),
    "one typo": _typos(0, 1),
    "three typos": _typos(0, 3),
    "1 % typos": _typos(0.01, 1),
    "page number": lambda text, rng: f"{text}\n\n{rng.randrange(1, 300)}",
    "header and footer": lambda text, rng: f"Lycée national - Série D - 2019\n{text}\nPage {rng.randrange(1, 300)}",
    "two words swapped": _swap_words,
    "first 8 % cut": lambda text, _: text[round(len(text) * 0.08) :],
}

TEMPLATES = (
    "Exercice {a} : Un mobile de masse m = {b} kg se déplace sur un plan horizontal à v = {c} m/s. "
    "Il est soumis à une force de frottement constante f = {d} N. Calculer son énergie cinétique initiale, puis la "
    "distance qu'il parcourt avant de s'arrêter. "
    "On prendra g = 9,8 N/kg. Comparer le résultat à celui obtenu pour une vitesse deux fois plus grande et conclure.",
    "Soit la fonction f définie sur R par f(x) = {a}x² + {b}x - {c}. Calculer sa dérivée, étudier son signe et dresser "
    "le tableau de variations. Déterminer l'équation de la tangente au point d'abscisse {d}. Tracer la courbe dans un "
    "repère orthonormé.",
    "يتحرك جسم كتلته {a} كغ على مستوى أفقي بسرعة {b} م/ث ويخضع لقوة احتكاك ثابتة شدتها {c} نيوتن. "
    "احسب طاقته الحركية الابتدائية ثم المسافة "
    "التي يقطعها قبل أن يتوقف بعد {d} ثوان. قارن النتيجة مع الحالة التي تكون فيها السرعة مضاعفة واستنتج.",
)


def _pages(paragraphs: Sequence[str]) -> list[str]:
    return ["\n".join(paragraphs[i : i + PARAGRAPHS_A_PAGE]) for i in range(0, len(paragraphs), PARAGRAPHS_A_PAGE)]


def _detection(name: str, texts: Sequence[str]) -> Iterator[Row]:
    rng = random.Random(1)
    found = {edit: [is_duplicate(text, change(text, rng)) for text in texts] for edit, change in EDITS.items()}
    for edit, hits in found.items():
        yield Row(f"{name}: found after {edit}", sum(hits) / len(hits))
    everything = [hit for hits in found.values() for hit in hits]
    yield Row(f"{name}: found, all edits", sum(everything) / len(everything), 0.98)


def _false_pairs(name: str, texts: Sequence[str]) -> Row:
    """Compare all pairs; hashes and shingles are made once, the rule is that of `is_duplicate`."""
    hashes = [simhash(text) for text in texts]
    grams = [shingles(text) for text in texts]
    wrong = sum(
        distance(hashes[i], hashes[j]) <= CANDIDATE_DISTANCE
        and jaccard(grams[i], grams[j]) >= DUPLICATE_JACCARD
        and same_figures(texts[i], texts[j])
        for i, j in combinations(range(len(texts)), 2)
    )
    return Row(
        f"{name}: different texts joined", wrong, 0, Better.LOWER, f"of {len(texts) * (len(texts) - 1) // 2} pairs"
    )


def _exercises(template: str, count: int = 40) -> list[str]:
    rng = random.Random(2)
    return [template.format(**{name: rng.randrange(2, 99) for name in "abcd"}) for _ in range(count)]


def report(data: Path) -> list[Row]:
    """Measure detection per edit and false pairs, on paragraphs, pages and template exercises."""
    rows: list[Row] = []
    for name, language in (("xquad_ar", "Arabic"), ("piaf_fr", "French")):
        paragraphs = [text for text in dict.fromkeys(pool(data, name).paragraphs) if len(text.split()) > 40]
        pages = _pages(paragraphs)
        rows += _detection(f"{language} paragraphs", paragraphs[:SAMPLE])
        rows += _detection(f"{language} pages", pages[:SAMPLE])
        rows += [_false_pairs(f"{language} paragraphs", paragraphs), _false_pairs(f"{language} pages", pages)]
    rows += [_false_pairs(f"exercises of one template, {i}", _exercises(text)) for i, text in enumerate(TEMPLATES, 1)]
    return rows
