"""What makes a question this one and no other: its names and what it asks about, and whether a source says them.

"Quelle est la capitale de la France ?" is not answered by another country's capital, however well the rest fits. Many
words of a question stand in no passage that answers it, so only few kinds of words count. Heuristic: a rule here only
decides whether a quotation is called an answer or the nearest passage.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Final

from server.models.local.bridge import language_of
from server.models.local.evidence import asking_word, passage, question, same_word
from server.models.port import Source
from server.text.analysis import terms, words
from server.text.fold import canonical
from server.text.glossary import known_terms, meanings
from server.text.language import Language
from server.text.ordinals import ordinals
from server.text.stopwords import STOP_WORDS
from server.text.transliteration import SHORTEST_SKELETON, skeleton, spellings

LEAST_SHARE_OF_LAST: Final = 0.2
"""Of the question's weight, for its last word: one with less is a detail of many."""

LEAST_SHARE_OF_SUBJECT: Final = 0.15
"""Of the question's weight, for what stands right behind the verb in Arabic."""

LEAST_SHARE_INSIDE: Final = 1 / 3
"""Of the question's weight, for a noun inside a question."""

MOST_WORDS: Final = 8
"""Words looked for; a question with more names is no question."""

INSTRUCTIONS: Final = "examen"
"""The glossary's subject for words such as "calculer": no text needs to hold them."""

_ASKING_WORDS: Final = """
    dit dis dire disent enonce enoncee enoncer explique expliquer signifie appelle appele selon decrit passe
    يقول قال تقول فسر اذكر معني يعني شرح
"""
_ASKING: Final = frozenset(_ASKING_WORDS.split())
"""Words, in canonical form, that ask for something and that no text needs to hold."""

_DETERMINERS: Final = frozenset(
    ["le", "la", "les", "l", "un", "une", "des", "du", "d", "de", "au", "aux", "son", "sa", "ses", "leur"]
)
_WORD: Final = re.compile(r"[^\W_](?:[^\W_]|[\u064b-\u0652])*")
_NAME: Final = re.compile(
    r"(?<=[\w,;:)»\"] )(?:\w['’])?([A-ZÀ-ÖØ-Þ][\w’'-]+(?: (?:d[eu] |des |la )?[A-ZÀ-ÖØ-Þ][\w’'-]+)*)"
)
_ASKS_WITH_VERB: Final = re.compile(r"\W*و?(?:ا?[يم]?متين?|متي|وقتاش|اين|وين|من|كيف|كيفاش|لماذا|ا?علاش|هل)\b")
_ADJECTIVE: Final = ("ي", "يه", "يون", "يين", "i", "y", "ya", "ye")
"""Endings that make "French" of "France"."""

_JOINED: Final = tuple("وفبلك")
_SHORTEST_JOINED: Final = 5


def unsaid(asked: str, sources: Sequence[Source]) -> list[tuple[str, ...]]:
    """Return for each source the words that make a question this one and that the source says in no form or language.

    They are as the question writes them.
    """
    language = language_of(asked)
    wanted = sorted(set(_specific(asked, language)), key=asked.index)[:MOST_WORDS]
    if not wanted:
        return [()] * len(sources)
    terms_of = _spellings(asked, language)
    texts = [_Text(source) for source in sources]
    return [tuple(each for each in wanted if not text.says(each, terms_of.get(each, ()))) for text in texts]


def _specific(asked: str, language: Language) -> Iterator[str]:
    """Yield a question's names, the noun it ends with, one that weighs much in it, and what its verb is about."""
    names = [match[1] for match in _NAME.finditer(asked)]
    yield from names
    if language is Language.OTHER:
        return
    written = _WORD.findall(asked)
    said = [canonical(word) for word in written]
    content = [at for at, word in enumerate(said) if not _asks(word)]
    named = {canonical(word) for name in names for word in _WORD.findall(name)}
    instructions = {
        canonical(asked[start:end]) for start, end, each in known_terms(asked, language) if each.subject == INSTRUCTIONS
    }
    weights = question(asked).weights
    heavy = {at: max((weights.get(stem, 0.0) for stem in terms(said[at])), default=0.0) for at in content}
    total = sum(heavy.values()) or 1.0
    about_verb = _ASKS_WITH_VERB.match(canonical(asked)) is not None
    if len(content) == 1 and not {said[content[0]]} & (named | instructions):
        yield written[content[0]]
    for before, at in pairwise(content):
        share = heavy[at] / total
        governed, follows, arabic = said[at - 1] in _DETERMINERS, before == at - 1, not said[at].isascii()
        last = at == len(said) - 1 and (arabic or governed or follows)
        subject = arabic and about_verb and follows and before == content[0]
        least = min(
            LEAST_SHARE_OF_LAST if last else 1.0,
            LEAST_SHARE_OF_SUBJECT if subject else 1.0,
            LEAST_SHARE_INSIDE if governed else 1.0,
        )
        if share >= least and said[at] not in named | instructions:
            yield written[at]


def _asks(word: str) -> bool:
    """Say whether a canonical word only makes the question, joins it to the one before ("ومتى") or counts."""
    return bool({word, word.removeprefix("و")} & (STOP_WORDS | _ASKING)) or asking_word(word) or bool(ordinals(word))


class _Text:
    """A source's words, canonical, with the stems of each."""

    def __init__(self, source: Source) -> None:
        self._known = passage(source.text)
        self._text = f"{source.title} {source.text}"

    @cached_property
    def _stems(self) -> dict[str, set[str]]:
        return {word: _stems(word) for word in words(self._text)}

    def says(self, name: str, spellings: Sequence[str]) -> bool:
        """Say whether it holds one of a name's words, or the school term that the name belongs to."""
        named = any(self._holds(word) for word in words(name) if word not in STOP_WORDS)
        return named or any(all(map(self._holds, words(spelling))) for spelling in spellings)

    def _holds(self, word: str) -> bool:
        """Say whether it holds a word in any form, or as the other script writes its sound."""
        stems = _stems(word)
        lenient = word.isascii() or word.startswith("ال") or word.endswith(_ADJECTIVE)
        if lenient and any(each in self._known for each in stems):
            return True
        forms = (
            form for form, held in self._stems.items() if any(same_word(one, each) for one in stems for each in held)
        )
        return any(lenient or not form.endswith(_ADJECTIVE) for form in forms) or self._sounds_like(word)

    def _sounds_like(self, word: str) -> bool:
        sound = skeleton(word)
        likely = {stem for each in spellings(word) for stem in terms(each)} if word.isascii() else set()
        # What ends in "a" may end in a letter that is written like the one of adjectives.
        adjective = word.endswith((*_ADJECTIVE, "a"))
        return any(
            not likely.isdisjoint(stems) or (len(sound) >= SHORTEST_SKELETON and skeleton(form) == sound)
            for form, stems in self._stems.items()
            if form.isascii() is not word.isascii() and (adjective or not form.endswith(_ADJECTIVE))
        )


def _stems(word: str) -> set[str]:
    """Return the stems of a canonical word with, and without, a letter that may be joined to it ("لتونس")."""
    joined = word.startswith(_JOINED) and len(word) >= _SHORTEST_JOINED
    return {*terms(word), *(terms(word[1:]) if joined else ())}


def _spellings(asked: str, language: Language) -> dict[str, tuple[str, ...]]:
    """Return, by each word of a school term in the question, the term's spellings in all languages."""
    return {
        word: tuple(each for entry in found for each in (*entry.french, *entry.arabic, *entry.hassaniya))
        for start, end, found in meanings(asked, language)
        for word in _WORD.findall(asked[start:end])
    }
