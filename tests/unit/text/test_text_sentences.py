"""Sentence spans in French and Arabic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.sentences import sentences, spans


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("M. Sy mesure 1.80 m. Il pèse 80 kg (cf. p. 12).", ["M. Sy mesure 1.80 m.", "Il pèse 80 kg (cf. p. 12)."]),
        ("A. Sall vivait en 300 av. J.-C. et après. Oui ?", ["A. Sall vivait en 300 av. J.-C. et après.", "Oui ?"]),
        ("ما هي الطاقة؟ قدرة على الشغل. قال د. أحمد!", ["ما هي الطاقة؟", "قدرة على الشغل.", "قال د. أحمد!"]),
        ("الجملة الأولى، وتستمر؛ ثم تنتهي. الثانية", ["الجملة الأولى، وتستمر؛ ثم تنتهي.", "الثانية"]),
        ("1. Définir la dérivée.\n2. Calculer f(2.5).", ["1. Définir la dérivée.", "2. Calculer f(2.5)."]),
        ("Titre\n\nTexte sur\ndeux lignes.", ["Titre", "Texte sur\ndeux lignes."]),
        ("La somme est S = 1 + 2 + … + n. Elle croît.", ["La somme est S = 1 + 2 + … + n.", "Elle croît."]),
        ("Il dit : « Oui. » Puis rien.", ["Il dit : « Oui. »", "Puis rien."]),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_ends_them(text, expected):
    assert [" ".join(one.split()) if "\n" not in one else one for one in sentences(text)] == expected


@given(st.text("aB. ?!؟\n1ا،»)…-", max_size=60))
def test_every_visible_character_lies_in_exactly_one_sentence(text):
    covered = [place for start, end in spans(text) for place in range(start, end)]
    assert covered == sorted(set(covered))
    assert {place for place, character in enumerate(text) if not character.isspace()} <= set(covered)


@given(st.text(max_size=80))
def test_spans_are_in_order_and_not_blank(text):
    last = 0
    for start, end in spans(text):
        assert last <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        last = end


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("3. Deuxième loi de Newton\nLa somme des forces est égale à m × a.", "3. Deuxième loi de Newton"),
        ("La photosynthèse\nLa photosynthèse est le processus par lequel une plante se nourrit.", "La photosynthèse"),
        ("3. معايير الحقيقة\nتعددت معايير الحقيقة عند الفلاسفة.", "3. معايير الحقيقة"),
    ],
)
def test_a_heading_is_no_part_of_the_sentence_below_it(text, first):
    assert sentences(text)[0] == first


def test_a_wrapped_line_goes_on_even_before_a_name():
    text = (
        "La gravitation a été étudiée au dix-septième siècle par le physicien Isaac\nNewton, puis par d'autres savants."
    )
    assert sentences(text) == [text]
