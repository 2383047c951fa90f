"""Which language a text is in: script first, then a small linear classifier over hashed character n-grams and words.

Arabic script is told apart into Modern Standard Arabic, Hassaniya and other (Persian, Urdu); Latin script into French,
Hassaniya and other. No library does this: none knows Hassaniya. How the weights were made: `data/README.md`.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from server.text.dialect import ORDINAL, asks_in_standard, writes_hassaniya
from server.text.language import Language
from server.text.memo import Memo

BUCKET_BITS: Final = 15
LONGEST_NGRAM: Final = 4
CHARACTERS_READ: Final = 4_000
"""A page's language shows in its first paragraphs; more only costs time."""

HASSANIYA_THRESHOLD: Final = 0.42
"""P(Hassaniya) needed before Arabic script is not called standard Arabic. At 0.42 both errors are equally rare on
held-out sentences; what is valid in both languages stays Arabic."""

MARKED_CONFIDENCE: Final = 0.6
"""What is told of a text that its dialect words alone make Hassaniya."""

ARABIC_CLASSES: Final = (Language.ARABIC, Language.HASSANIYA, Language.OTHER)
LATIN_CLASSES: Final = (Language.FRENCH, Language.HASSANIYA, Language.OTHER)

_MARKS: Final = re.compile(
    "[\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u200b-\u200f\u202a-\u202e\u2066-\u2069]+"
)
_WORD: Final = re.compile(r"[^\W_]+")
_ARABIC_LETTER: Final = re.compile("[\u0620-\u064a\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f]")
_LATIN_LETTER: Final = re.compile("[a-z\u00df-\u00f6\u00f8-\u024f\u1e00-\u1eff]")
_OTHER_LETTER: Final = re.compile(
    "[^\\W\\d_a-z\u00aa\u00b5\u00ba\u00df-\u02af\u0370-\u03ff\u0600-\u06ff\u0750-\u077f\u1e00-\u1eff]"
)
_FORMULA_WORD: Final = re.compile(
    r"(?<= )(?:\d*[a-z]\d*|sin|cos|tan|arctan|lim|ln|log|exp|max|min|pgcd|ppcm|km|kg|cm|mm|ml|mg|kj|mol|kwh|hz)(?= )"
)
KEPT_WORDS: Final = 32_768
LONGEST_KEPT: Final = 40
"""Characters; longer ones are not words that come again."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A language with its probability among the languages of that script; 0 when the text has no letters."""

    language: Language
    confidence: float


@dataclass(frozen=True, slots=True)
class ScriptModel:
    """A linear classifier of one script: inverse document frequencies, shape (buckets,), and weights, shape
    (classes, buckets), with one bias per class."""

    classes: tuple[Language, ...]
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    biases: NDArray[np.float32]

    def probabilities(self, text: str) -> NDArray[np.float64]:
        """Return the probability of each class for a normalised text."""
        buckets, values = features(text)
        values = values * self.idf[buckets]
        values /= math.sqrt(float(values @ values)) or 1.0
        scores = self.weights[:, buckets] @ values + self.biases
        likelihoods = np.exp(scores - scores.max(), dtype=np.float64)
        return np.asarray(likelihoods / likelihoods.sum())


@dataclass(frozen=True, slots=True)
class Detector:
    """The models of both scripts."""

    arabic: ScriptModel
    latin: ScriptModel

    def detect(self, text: str) -> Detection:
        """Name the language of a text by its prevailing script and that script's model."""
        normalised = normalise(text[:CHARACTERS_READ])
        script = prevailing_script(normalised)
        if script is None:
            return Detection(Language.OTHER, 0.0)
        if script == "other":
            return Detection(Language.OTHER, 1.0)
        model = self.arabic if script == "arabic" else self.latin
        probabilities = model.probabilities(words_in(script, normalised))
        best = int(probabilities.argmax())
        hassaniya = model.classes.index(Language.HASSANIYA)
        standard = script == "arabic" and asks_in_standard(normalised)
        likelihood = 0.0 if standard else float(probabilities[hassaniya])
        if script == "arabic" and model.classes[best] is not Language.OTHER:
            best = hassaniya if likelihood >= HASSANIYA_THRESHOLD else model.classes.index(Language.ARABIC)
        foreign = script == "arabic" and model.classes[best] is Language.OTHER
        if best != hassaniya and not foreign and writes_hassaniya(script, normalised.split(), likelihood):
            return Detection(Language.HASSANIYA, max(likelihood, MARKED_CONFIDENCE))
        return Detection(model.classes[best], float(probabilities[best]))


def normalise(text: str) -> str:
    """Return lower-case words without marks and numbers, one space between and around them.

    Hamzas, ta marbuta, accents and گ stay: how a writer spells tells the language. Training adds unhamzated and
    unaccented copies, so that texts without them are told apart as well.
    """
    text = _MARKS.sub("", unicodedata.normalize("NFKC", text).lower())
    return " " + " ".join(word for word in _WORD.findall(text) if not word.isdigit()) + " "


def prevailing_script(normalised: str) -> str | None:
    """Return arabic, latin or other, whichever has most letters; None when there are no letters at all.

    Variables, functions and units are not letters of a language. Arabic wins ties and also against twice as many Latin
    letters: French terms inside an Arabic question are common, the reverse is not.
    """
    arabic = len(_ARABIC_LETTER.findall(normalised))
    latin = len(_LATIN_LETTER.findall(_FORMULA_WORD.sub("", normalised)))
    other = len(_OTHER_LETTER.findall(normalised))
    if not arabic + latin + other:
        return None
    if other > arabic + latin:
        return "other"
    return "arabic" if 2 * arabic >= latin and arabic else "latin"


def words_in(script: str, normalised: str) -> str:
    """Return the words that have a letter of the script, in the same form; "3e" and "2nd" are numbers, not words."""
    letter = _ARABIC_LETTER if script == "arabic" else _LATIN_LETTER
    words = (word for word in normalised.split() if letter.search(word) and not ORDINAL.match(word))
    return " " + " ".join(words) + " "


def features(normalised: str) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the buckets of a text's character 1-4-grams and words, each once, with 1 + ln of how often they occur."""
    held = b"".join(map(_buckets_of.__getitem__, normalised.split())) + _LAST_SPACE
    buckets, counts = np.unique(np.frombuffer(held, dtype=np.uint16), return_counts=True)
    return buckets.astype(np.intp), (1.0 + np.log(counts)).astype(np.float32)


def _word_buckets(word: str) -> bytes:
    """Return the buckets of a word and the space before it, as uint16. No n-gram crosses a space."""
    codes = np.frombuffer(f" {word} ".encode("utf-32-le"), dtype=np.uint32)
    found = [_salted(_whole(codes[1:-1]), LONGEST_NGRAM + 1)]
    rolling = np.zeros(len(codes), dtype=np.uint32)
    for size in range(1, min(LONGEST_NGRAM, len(codes)) + 1):
        count = len(codes) - size + 1
        rolling = (rolling[:count] * np.uint32(0x01000193)) ^ (codes[size - 1 :] * np.uint32(0x9E3779B1))
        found.append(_salted(rolling[:-1] if size == 1 else rolling, size))
    return _buckets(np.concatenate(found))


def _whole(letters: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hash a word as the sum of its characters' hashes, each mixed with its place in the word."""
    places = np.arange(1, len(letters) + 1, dtype=np.uint32)
    mixed = _mix((letters ^ (places << np.uint32(21))) * np.uint32(0x85EBCA77))
    return np.asarray(mixed.sum(keepdims=True, dtype=np.uint32))


def _buckets(hashes: NDArray[np.uint32]) -> bytes:
    return (_mix(hashes) >> np.uint32(32 - BUCKET_BITS)).astype(np.uint16).tobytes()


def _mix(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Spread every input bit over the word (lowbias32, C. Wellons)."""
    hashes = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x7FEB352D)
    hashes = (hashes ^ (hashes >> np.uint32(15))) * np.uint32(0x846CA68B)
    return np.asarray(hashes ^ (hashes >> np.uint32(16)), dtype=np.uint32)


def _salted(hashes: NDArray[np.uint32], kind: int) -> NDArray[np.uint32]:
    """Keep the same hash of two kinds of features apart."""
    return np.asarray(hashes + np.uint32(kind * 0x9E3779B1 & 0xFFFFFFFF), dtype=np.uint32)


_LAST_SPACE: Final = _buckets(_salted(np.array([ord(" ")], dtype=np.uint32) * np.uint32(0x9E3779B1), 1))
_buckets_of: Final = Memo(_word_buckets, KEPT_WORDS, worth_keeping=lambda word: len(word) <= LONGEST_KEPT)


def load(path: Path) -> Detector:
    """Read weights written by `save`."""
    with np.load(path) as stored:
        models = [
            ScriptModel(
                classes,
                stored[f"{script}_idf"].astype(np.float32) * stored[f"{script}_idf_scale"],
                stored[f"{script}_weights"].astype(np.float32) * stored[f"{script}_weights_scale"],
                stored[f"{script}_biases"],
            )
            for script, classes in (("arabic", ARABIC_CLASSES), ("latin", LATIN_CLASSES))
        ]
    return Detector(*models)


def save(detector: Detector, path: Path) -> None:
    """Write a detector as 8-bit weights with one scale per matrix (about 0.13 MB)."""
    arrays: dict[str, NDArray[Any]] = {}
    for script, model in (("arabic", detector.arabic), ("latin", detector.latin)):
        for name, matrix, levels, kind in (("idf", model.idf, 255, np.uint8), ("weights", model.weights, 127, np.int8)):
            scale = np.array(np.abs(matrix).max() / levels, dtype=np.float32)
            arrays[f"{script}_{name}"] = np.rint(matrix / scale).astype(kind)
            arrays[f"{script}_{name}_scale"] = scale
        arrays[f"{script}_biases"] = model.biases
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@cache
def _shipped() -> Detector:
    with as_file(files("server.text") / "data" / "language.npz") as path:
        return load(path)


def detect(text: str) -> Detection:
    """Name the language of a text with the shipped weights. Digits and signs alone give OTHER with confidence 0."""
    return _shipped().detect(text)
