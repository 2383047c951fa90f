"""School terms in French, Arabic, Hassaniya and English: an offline bridge from a question to other languages' texts.

Terms are matched by their stems, longest first. Every pair used is kept, so that the student can be shown what the
question was taken to mean.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from server.text import analysis
from server.text.analysis import terms
from server.text.dialect import asks_in_latin, standard_spellings
from server.text.fold import canonical, folded
from server.text.language import Language
from server.text.stemming import stem
from server.text.stopwords import STOP_WORDS
from server.text.transliteration import SHORTEST_SKELETON, arabic_skeleton, latin_skeleton, spellings, without_article

LEAST_LETTERS: Final = 5
"""Of a French stem that Hassaniya in Latin letters is looked through for."""

MOST_GUESSES: Final = 48
"""Spellings that a question is searched with, of all its words together."""

_ENGLISH_SMALL: Final = frozenset(
    ["the", "of", "an", "is", "are", "in", "at", "to", "and", "what", "does", "do", "did"]
)

LEAST_SPOKEN_LETTERS: Final = 4
"""Of a word in Latin letters that is spelled in Arabic ones."""

INSTRUCTIONS: Final = "examen"
EVERYDAY: Final = "courant"
"""Subjects of words that a question may have whatever it is about."""

QUESTION_WORDS: Final = "question"
"""The subject of words that only make a question; they are translated for reading, not for searching."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One term: its subject and its spellings, the usual one first.

    Hassaniya only where it differs from Arabic, English where it differs from French.
    """

    subject: str
    french: tuple[str, ...]
    arabic: tuple[str, ...]
    hassaniya: tuple[str, ...]
    english: tuple[str, ...]

    def spellings(self, language: Language) -> tuple[str, ...]:
        """Return how a language writes the term; a Hassaniya reader is given Arabic letters."""
        if language is Language.FRENCH:
            return self.french
        local = tuple(word for word in self.hassaniya if not word.isascii())
        return local + self.arabic if language is Language.HASSANIYA else self.arabic


@dataclass(frozen=True, slots=True)
class Pair:
    """A term of the question as it was written, and what it was taken for."""

    said: str
    means: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """A question carried into another language.

    `text` is for reading: each known term in its usual spelling, numbers and names as they were. `search` holds every
    spelling of the content terms, and guesses where a word is only spelled in other letters. `pairs` lists what was
    matched, in order.
    """

    text: str
    search: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of a text: where it stands, as written, canonical, its stem, and whether it carries content."""

    start: int
    end: int
    written: str
    canonical: str
    stem: str
    content: bool


@cache
def entries() -> tuple[Entry, ...]:
    """Return all entries, in the order of the data file."""
    lines = (files("server.text") / "data" / "glossary.tsv").read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return tuple(_entry(*row) for row in rows)


def _entry(subject: str, french: str = "", arabic: str = "", hassaniya: str = "", english: str = "") -> Entry:
    return Entry(subject, *(tuple(filter(None, cell.split("|"))) for cell in (french, arabic, hassaniya, english)))


_Key = tuple[str, ...]


@cache
def _terms_of(language: Language) -> dict[_Key, list[Entry]]:
    """Return the entries by the stems of their spellings, sorted: "Newton's second law", "second law of Newton".

    For Hassaniya the Arabic and French spellings count as well: who writes it mixes in both.
    """
    table: dict[_Key, list[Entry]] = defaultdict(list)
    for entry in entries():
        for spelling in _known_spellings(entry, language):
            key = tuple(sorted(terms(" ".join(word for word in spelling.split() if word not in _ENGLISH_SMALL))))
            if entry.subject != QUESTION_WORDS and entry not in table[key]:
                table[key].append(entry)
    return table


@cache
def _question_phrases(language: Language) -> dict[_Key, Entry]:
    """Return the question words by their canonical words."""
    asked = (entry for entry in entries() if entry.subject == QUESTION_WORDS)
    return {tuple(canonical(word).replace("'", " ").replace("-", " ").split()): entry
            for entry in asked for word in _known_spellings(entry, language)}  # fmt: skip


@cache
def _arabic_stems_of_latin_words() -> dict[str, str]:
    """Return the Arabic stem of the Hassaniya words that the glossary lists in Latin letters."""
    table: dict[str, str] = {}
    for entry in entries():
        stems = terms(entry.arabic[0])
        for word in entry.hassaniya:
            if word.isascii() and word.isalnum() and len(stems) == 1 and entry.subject != QUESTION_WORDS:
                table.setdefault(word, stems[0])
    return table


@cache
def _arabic_stems_by_skeleton() -> dict[str, str]:
    """Return the stem of every Arabic word of a school subject by its consonants; everyday words would fit too much."""
    table: dict[str, str] = {}
    for entry in (entry for entry in entries() if entry.subject != EVERYDAY):
        for word in canonical(" ".join(entry.arabic)).split():
            if len(skeleton := arabic_skeleton(word)) >= SHORTEST_SKELETON:
                table.setdefault(skeleton, stem(word))
    return table


@cache
def _arabic_words() -> frozenset[str]:
    """Return the Arabic words of the glossary as they stand: a stem would fit too many words that only look alike."""
    return frozenset(canonical(" ".join(spelling for entry in entries() for spelling in entry.arabic)).split())


@cache
def _french_stems() -> frozenset[str]:
    """Return the stems of the French words of the glossary that are too long to be another word by chance."""
    return frozenset(
        each
        for entry in entries()
        for spelling in entry.french
        for each in terms(spelling)
        if len(each) >= LEAST_LETTERS
    )


def _known_spellings(entry: Entry, language: Language) -> tuple[str, ...]:
    if language is Language.FRENCH:
        return entry.french
    if language is Language.HASSANIYA:
        return entry.arabic + entry.hassaniya + entry.french
    return entry.arabic if language is Language.ARABIC else entry.english or entry.french


def _words(text: str, source: Language) -> list[_Word]:
    original = folded(text)
    found: list[_Word] = []
    start = 0
    for piece in "".join(c if c.isalnum() else " " for c in original.text).split():
        start = original.text.index(piece, start)
        begin, end = original.span(start, start + len(piece))
        start += len(piece)
        content = piece not in STOP_WORDS and not (source is Language.OTHER and piece in _ENGLISH_SMALL)
        found.append(_Word(begin, end, text[begin:end], piece, _root(piece, source), content))
    return found


def _root(word: str, source: Language) -> str:
    """Return the stem that terms are matched by; Hassaniya is read as the standard Arabic that it sounds like."""
    if source is not Language.HASSANIYA:
        return stem(word)
    if not word.isascii():
        return stem(
            next((each for each in standard_spellings(word) if each.removeprefix("ال") in _arabic_words()), word)
        )
    arabic = _arabic_stems_of_latin_words().get(word)
    if arabic is None and not asks_in_latin(word):
        arabic = _arabic_stems_by_skeleton().get(latin_skeleton(word))
    bare = stem(without_article(word))
    return arabic or (bare if bare in _french_stems() else stem(word))


def _match_question(words: Sequence[_Word], phrases: dict[_Key, Entry]) -> tuple[Entry, int] | None:
    for length in range(min(len(words), 5), 0, -1):
        entry = phrases.get(tuple(word.canonical for word in words[:length]))
        if entry:
            return entry, length
    return None


def _match_terms(words: Sequence[_Word], table: dict[_Key, list[Entry]]) -> tuple[list[Entry], int] | None:
    """Return the entries of the longest term that begins here, and how many words (stop words inside) it takes."""
    best: tuple[list[Entry], int] | None = None
    key: _Key = ()
    for length, word in enumerate(words[:8], 1):
        if word.content:
            key = tuple(sorted((*key, word.stem)))
            if key in table:
                best = table[key], length
        elif length == 1:
            return None
    return best


def _as_written(found: list[Entry], words: Sequence[_Word], source: Language) -> list[Entry]:
    """Keep the entries that are spelled as the question has it, if there are any: "منطقة" is no logic, "منطق".

    The likeliest comes first: what is usually spelled so, then words of instructions, then of school subjects.
    """
    if len(found) == 1:
        return found
    written = tuple(word.canonical.removeprefix("ال") for word in words)
    exact = [entry for entry in found if written in _forms(entry, source)] or found
    return sorted(
        exact,
        key=lambda entry: (
            _forms(entry, source)[:1] != (written,),
            entry.subject != INSTRUCTIONS,
            entry.subject == EVERYDAY,
        ),
    )


@cache
def _forms(entry: Entry, language: Language) -> tuple[_Key, ...]:
    """Return the spellings of an entry as canonical words without the Arabic article, the usual one first."""
    return tuple(
        tuple(word.removeprefix("ال") for word in analysis.words(spelling))
        for spelling in _known_spellings(entry, language)
    )


def _matches(words: Sequence[_Word], source: Language) -> Iterator[tuple[list[_Word], list[Entry]]]:
    """Yield the words of the question in groups, each with the entries it means (none for unknown words)."""
    table, phrases = _terms_of(source), _question_phrases(source)
    at = 0
    while at < len(words):
        asked = _match_question(words[at:], phrases)
        term = _match_terms(words[at:], table)
        if term and (not asked or term[1] >= asked[1]):
            found, length = _as_written(term[0], words[at : at + term[1]], source), term[1]
        elif asked:
            found, length = [asked[0]], asked[1]
        else:
            found, length = [], 1
        yield list(words[at : at + length]), found
        at += length


def known_terms(text: str, language: Language) -> list[tuple[int, int, Entry]]:
    """Return the terms of a text with their character spans, in order; question words are left out."""
    return [(start, end, found[0]) for start, end, found in meanings(text, language)]


def meanings(text: str, language: Language) -> list[tuple[int, int, list[Entry]]]:
    """Return all that each term of a text may mean, the usual first, with its character span, in order."""
    return [
        (words[0].start, words[-1].end, found)
        for words, found in _matches(_words(text, language), language)
        if found and found[0].subject != QUESTION_WORDS
    ]


def render(text: str, source: Language, target: Language) -> Rendering | None:
    """Carry a question into `target` as far as the glossary knows its terms; None when it knows none of them.

    A question in none of the school languages is taken for English. Between Arabic and Hassaniya unknown words stay as
    they are; into or out of French only numbers and names stay. Names and Hassaniya in Latin letters are also spelled
    as Arabic is likely to.
    """
    if source is target or target is Language.OTHER:
        return None
    reading: list[str] = []
    searching: list[str] = []
    pairs: list[Pair] = []
    guesses: list[str] = []
    spelled = (source, target) == (Language.HASSANIYA, Language.ARABIC)
    shares_words = Language.FRENCH not in (source, target)
    for words, found in _matches(_words(text, source), source):
        said = text[words[0].start : words[-1].end]
        if found:
            means = _spelling(found[0], words, target)
            reading.append(means)
            if found[0].subject != QUESTION_WORDS:
                searching += dict.fromkeys(word for entry in found for word in entry.spellings(target))
                if canonical(said) != canonical(means):
                    pairs.append(Pair(said, means))
        elif spelled and _is_spoken(words[0]) and any(likely := spellings(words[0].canonical)):
            reading.append(likely[0])
            guesses += likely
        elif words[0].canonical.isdigit() or _is_name(words[0], text) or (shares_words and not said.isascii()):
            reading.append(said)
            searching.append(said)
            if target is Language.ARABIC and _is_spoken(words[0]):
                guesses += filter(None, spellings(words[0].canonical))
            elif spelled and words[0].content:
                guesses += standard_spellings(words[0].canonical)
    return (
        Rendering(" ".join(reading), " ".join((*searching, *guesses[:MOST_GUESSES])), tuple(pairs))
        if pairs or guesses
        else None
    )


def _is_spoken(word: _Word) -> bool:
    """Say whether a word in Latin letters may be spelled in Arabic ones: long enough, and not a small word."""
    return (
        word.content
        and word.canonical.isascii()
        and not asks_in_latin(word.canonical)
        and len(without_article(word.canonical)) >= LEAST_SPOKEN_LETTERS
    )


def _spelling(entry: Entry, words: Sequence[_Word], target: Language) -> str:
    """Return how `target` writes an entry: the question's own word where it is one of them, else the usual spelling."""
    stems = sorted(word.stem for word in words if word.content)
    spellings = entry.spellings(target)
    return next((spelling for spelling in spellings if sorted(terms(spelling)) == stems), spellings[0])


def _is_name(word: _Word, text: str) -> bool:
    """Take a capital inside a sentence for a name (also symbols such as NaCl)."""
    return word.content and word.written != word.written.lower() and not text.lstrip(" ¿«\"'").startswith(word.written)
