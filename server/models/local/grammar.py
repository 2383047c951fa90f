"""Just enough grammar to put another word into a gap: gender, number, elision and capitals in French, article and
gender in Arabic. Heuristic: a rule here only decides which wrong answers are offered, never which one is right.
"""

import re
from dataclasses import dataclass
from typing import Final

from server.models.local.keyterms import Key, KeyKind
from server.text.fold import canonical
from server.text.language import Language

_BEFORE: Final = re.compile(r"(?i)(?:^|[\s('’])(l['’]|d['’]|le|la|les|un|une|des|du|au|aux|cet?|cette|ces|sa|son)\s?$")
_MASCULINE_BEFORE: Final = frozenset(("le", "un", "du", "au", "ce", "cet", "son"))
_FEMININE_BEFORE: Final = frozenset(("la", "une", "cette", "sa"))
_PLURAL_BEFORE: Final = frozenset(("les", "des", "aux", "ces"))
_FEMININE: Final = re.compile(r"(?:[^lv]ion|[aiu]ison|te|e|[glruv]eur)$")
_MASCULINE: Final = re.compile(
    r"(?:isme|age|[eou]me|gramme|[cgp]le|[bdptc]re|aire|toire|ide|yde|[rt]ype|[rclzb]one|ube|ege|logue|graphe|[dghxs]e?ne"
    r"|[aio]ste|[cx]te|plasme|[^u]ote|cose|ctose|rbe|ange|ire|phyte|cyte|[^s]ene|[nm]ere)$"
)
_FEMININE_LIST: Final = """
    affaire aire algebre asymptote cellule chambre cible cire cour courbe deuxieme eau fable facon femelle femme
    fenetre fibre fin foi foret forme grammaire guerre hauteur histoire hormone image inconnue lecon lettre
    liste loi longueur main mecanique memoire mer methode molaire molecule mort norme note nuit ombre onde page
    paix part peau periode pesanteur piste plage planete plaque preuve pyramide regle scene somme table terre
    trajectoire troisieme vapeur variable victoire voix zone
"""
_MASCULINE_LIST: Final = """
    alcane allele ampere avion axe azote beurre carre chlorure clone comite commerce complexe compose comte
    controle corrige cote cuivre cylindre diabete disque domaine eleve empire ensemble enzyme espace ete
    exercice exode fleuve foie fossile genre groupe hydrocarbure indice intervalle isotope jeune joule lexique
    livre logarithme losange lycee manque marche masque massacre melange mercure microbe million ministere
    module monde murmure muscle musee navire organite ovule pape pendule peuple philosophe poete pole polymere
    precipite prince principe projectile prophete reflexe regime repere reste resume risque role royaume
    satellite score service sexe signe silence site solute sourire squelette stade stomate style suffixe temple
    terme testicule texte traite trophee verbe volume vote
"""
_LISTED: Final = {
    **dict.fromkeys(_FEMININE_LIST.split(), True),
    **dict.fromkeys(_MASCULINE_LIST.split(), False),
}
PROPER_SUBJECTS: Final = ("lieu", "nom")
"""The glossary's subjects for names, which have a gender and an article of their own."""

_INFINITIVE: Final = re.compile(r"(?:[^i]er|fier|oudre|uire|crire|clure)$")
_SHORTEST_INFINITIVE: Final = 7
_VOWELS: Final = "aeiouyh"


def is_feminine(french: str) -> bool:
    """Guess a French noun's gender from its (first word's) ending."""
    word = canonical(french).split()[0]
    if word in _LISTED:
        return _LISTED[word]
    return not _MASCULINE.search(word) and _FEMININE.search(word) is not None


def _plural(french: str) -> str:
    """Return the plural of a French noun."""
    if french.endswith(("s", "x", "z")):
        return french
    if french.endswith("al"):
        return f"{french[:-1]}ux"
    return f"{french}x" if french.endswith(("eau", "eu")) else f"{french}s"


@dataclass(frozen=True, slots=True)
class Fit:
    """What a word must be like to stand in a gap; None where anything goes."""

    language: Language
    feminine: bool | None
    plural: bool
    vowel: bool | None
    capital: bool
    article: bool | None

    def __call__(self, text: str) -> bool:
        """Say whether a word fits the gap."""
        if self.language is not Language.FRENCH:
            return self.feminine in (None, text.rstrip("\u064b-\u0652").endswith(("ة", "ات")))
        if self.vowel is not None and (canonical(text)[:1] in _VOWELS) != self.vowel:
            return False
        if (self.plural and " " in text) or (not self.plural and text.split()[0].endswith("s")):
            return False
        if len(text) >= _SHORTEST_INFINITIVE and _INFINITIVE.search(text):
            return False
        return self.feminine is None or is_feminine(text.removesuffix("s")) == self.feminine

    def dress(self, text: str) -> str:
        """Return the word with the capital, plural or article that the gap asks for: the right answer must not stand
        out by its form.
        """
        if self.language is Language.FRENCH:
            text = _plural(text) if self.plural else text
            return text[:1].upper() + text[1:] if self.capital else text
        if self.article is None:
            return text
        bare = " ".join(word.removeprefix("ال") for word in text.split())
        return " ".join(f"ال{word}" for word in bare.split()) if self.article else bare


def grammar(key: Key, sentence: str, language: Language) -> Fit:
    """Read from the sentence what the word in the key's place must be like."""
    capital = key.text[:1].isupper()
    if key.kind is KeyKind.NAME or key.subject in PROPER_SUBJECTS:
        return Fit(language, None, plural=False, vowel=None, capital=capital, article=None)
    if language is not Language.FRENCH:
        return Fit(language, key.text.endswith(("ة", "ات")), False, None, capital, key.text.startswith("ال"))
    match = _BEFORE.search(sentence[: key.start])
    before = match[1].lower().replace("’", "'") if match else ""
    plural = before in _PLURAL_BEFORE or (not before and not capital and key.text.endswith("s"))
    feminine = before in _FEMININE_BEFORE
    if before not in _FEMININE_BEFORE | _MASCULINE_BEFORE:
        feminine = is_feminine(key.text.removesuffix("s") if plural else key.text)
    vowel = None if plural or not before else canonical(key.text)[:1] in _VOWELS
    return Fit(language, feminine, plural, vowel, capital, False)
