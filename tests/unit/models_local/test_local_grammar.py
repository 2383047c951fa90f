"""Words put into a gap fit the words around it."""

import pytest

from server.models.local.grammar import grammar, is_feminine
from server.models.local.keyterms import Key, KeyKind
from server.text.language import Language


def fit(sentence, word, language=Language.FRENCH):
    start = sentence.index(word)
    return grammar(Key(word, start, start + len(word), KeyKind.TERM, 1.0), sentence, language)


@pytest.mark.parametrize(
    "word",
    [
        "vitesse",
        "énergie",
        "radioactivité",
        "tension",
        "force",
        "masse",
        "cellule",
        "lecture",
        "région",
        "chaleur",
        "fleur",
        "génétique",
        "loi",
        "planète",
        "trajectoire",
        "onde",
    ],
)
def test_feminine_endings_are_known(word):
    assert is_feminine(word)


@pytest.mark.parametrize(
    "word",
    [
        "noyau",
        "théorème",
        "triangle",
        "atome",
        "courant",
        "acide",
        "mouvement",
        "chromosome",
        "chloroplaste",
        "glucose",
        "composé",
        "génotype",
        "principe",
        "spectre",
        "vecteur",
        "gène",
    ],
)
def test_masculine_endings_are_known(word):
    assert not is_feminine(word)


def test_the_article_decides_the_gender():
    assert fit("La vitesse augmente.", "vitesse")("tension")
    assert not fit("La vitesse augmente.", "vitesse")("courant")
    assert fit("Le courant augmente.", "courant")("noyau")


def test_elision_needs_a_vowel():
    assert fit("Mesurer l'énergie du corps.", "énergie")("oxydation")
    assert not fit("Mesurer l'énergie du corps.", "énergie")("tension")


def test_number_and_capital_are_kept():
    assert fit("Il compare les vecteurs du plan.", "vecteurs").dress("cercle") == "cercles"
    assert fit("Pour Descartes, le doute est utile.", "Descartes").dress("kant") == "Kant"


@pytest.mark.parametrize(
    ("word", "fits"), [("masse", True), ("poids", False), ("mouvement", False), ("énergie cinétique", False)]
)
def test_a_plural_gap_keeps_its_gender_and_takes_one_word(word, fits):
    assert fit("On fait le bilan des forces extérieures.", "forces")(word) is fits


@pytest.mark.parametrize(
    ("word", "plural"), [("eau", "eaux"), ("minéral", "minéraux"), ("gaz", "gaz"), ("ion", "ions")]
)
def test_plurals_are_written_as_french_does(word, plural):
    assert fit("Il compare les corps du mélange.", "corps").dress(word) == plural


def test_no_verb_stands_for_a_noun():
    assert not fit("On calcule le quotient des termes.", "quotient")("démontrer")
    assert fit("On calcule le quotient des termes.", "quotient")("nombre")


def test_names_keep_their_own_gender_and_article():
    sentence = "وانضمت موريتانيا إلى الأمم المتحدة."
    place = grammar(Key("موريتانيا", 7, 16, KeyKind.TERM, 1.0, "lieu"), sentence, Language.ARABIC)
    assert place("السنغال")
    assert place.dress("السنغال") == "السنغال"


def test_arabic_gender_and_article_are_kept():
    definite = fit("تنتج الميتوكندري طاقة الخلية.", "الخلية", Language.ARABIC)
    assert definite("طاقة")
    assert not definite("قلب")
    assert definite.dress("طاقة حركية") == "الطاقة الحركية"
    assert fit("طاقة الخلية", "طاقة", Language.ARABIC).dress("الكتلة") == "كتلة"
