"""Which language a text is in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.detection import ARABIC_CLASSES, LATIN_CLASSES, Detector, ScriptModel, detect, load, save
from server.text.language import Language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Quelle est la vitesse de la lumière ?", Language.FRENCH),
        ("quelle est la capitale de la mauritanie", Language.FRENCH),
        ("Calculer la derivee de la fonction", Language.FRENCH),
        ("ما هي سرعة الضوء في الفراغ؟", Language.ARABIC),
        ("احسب الطاقة الحركية لجسم كتلته 2 كغ", Language.ARABIC),
        ("شنهو القانون الثاني متاع نيوتن؟", Language.HASSANIYA),
        ("ندور نفهم ذا الدرس ظرك", Language.HASSANIYA),
        ("chenhou l9anoun ethani mta3 newton", Language.HASSANIYA),
        ("shnu howa qanoun niuton", Language.HASSANIYA),
        ("kifash nhasb elmasaha", Language.HASSANIYA),
        ("et la 3e ?", Language.FRENCH),
        ("photosynthèse", Language.FRENCH),
        ("ما هي عاصمة فرنسا؟", Language.ARABIC),
        ("What is the speed of light?", Language.OTHER),
        ("Wie groß ist die Lichtgeschwindigkeit im Vakuum?", Language.OTHER),
        ("Какова скорость света?", Language.OTHER),
        ("光速是多少", Language.OTHER),
    ],
)
def test_a_question_is_told_by_its_words(text, language):
    assert detect(text).language is language


@pytest.mark.parametrize("text", ["", "   ", "2 + 2 = 4", "؟!،"])
def test_a_text_without_letters_has_no_language(text):
    assert detect(text).language is Language.OTHER
    assert detect(text).confidence == 0.0


@pytest.mark.parametrize("text", ["qwxz zzkp", "xxyy", "hgfd", "sdfsdf dsfsd", "jkhjkh"])
def test_letters_typed_without_looking_are_no_language(text):
    assert detect(text).language is Language.OTHER


def test_a_formula_does_not_make_an_arabic_question_french():
    assert detect("ما هي مشتقة الدالة f(x) = sin(x) + cos(x) ؟").language is Language.ARABIC


def test_vowel_marks_do_not_change_the_language():
    assert detect("مَا هِيَ سُرْعَةُ الضَّوْءِ؟").language is Language.ARABIC


@given(st.text(max_size=200))
def test_any_text_gets_a_language_with_a_probability(text):
    found = detect(text)
    assert isinstance(found.language, Language)
    assert 0.0 <= found.confidence <= 1.0


def test_a_saved_detector_answers_as_before(tmp_path):
    shipped = Detector(*(_copied(script) for script in ("arabic", "latin")))
    save(shipped, tmp_path / "weights.npz")
    question = "ندور نفهم ذا الدرس ظرك"
    assert load(tmp_path / "weights.npz").detect(question).language is shipped.detect(question).language


def _copied(script):
    from importlib.resources import as_file, files

    with as_file(files("server.text") / "data" / "language.npz") as path:
        shipped = getattr(load(path), script)
    classes = ARABIC_CLASSES if script == "arabic" else LATIN_CLASSES
    return ScriptModel(classes, shipped.idf, shipped.weights, shipped.biases)
