"""Which pages may be indexed, and what is wrong with the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.language import Language
from server.text.pagequality import Fault, inspect, map_is_broken

FRENCH = (
    "La photosynthèse permet aux plantes vertes de fabriquer du glucose à partir du gaz carbonique de l'air, de l'eau "
    "du sol et de la lumière du soleil. Elle a lieu dans les chloroplastes des feuilles, pleins de chlorophylle."
)
ARABIC = (
    "الخلية هي الوحدة الأساسية لجميع الكائنات الحية، وتحتوي نواتها على المعلومة الوراثية. تتكون الخلية من غشاء يحيط "
    "بها ومن سيتوبلازم تسبح فيه عضيات مثل الميتوكندري التي تنتج الطاقة بفضل التنفس."
)
MATHS = (
    "f(x) = x² - 3x + 2, f'(x) = 2x - 3, Δ = 9 - 8 = 1, x₁ = 1, x₂ = 2, S = {1; 2}, lim f(x) = +∞, f(0) = 2, f(3) = 2"
)


@pytest.mark.parametrize("text", [FRENCH, ARABIC, FRENCH + "\n" + ARABIC, MATHS, f"{MATHS}\n{ARABIC}"])
def test_a_readable_page_is_valid(text):
    assert inspect(text).fault is None
    assert inspect(text).score > 0.5


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", Fault.EMPTY),
        ("\u200f \n\x00", Fault.EMPTY),
        ("Page 12", Fault.SHORT),
        (" ".join(word[::-1] for word in ARABIC.split()), Fault.REVERSED),
        (ARABIC.replace("ت", "ةق").replace("م", "ىم"), Fault.BROKEN_CHARACTER_MAP),
        (ARABIC.encode().decode("cp1252", "replace"), Fault.UNREADABLE),
        (" ".join("(cid:12)(cid:7)" for _ in range(20)), Fault.UNREADABLE),
        (FRENCH.translate(str.maketrans("aeinorstu", "xqzkwvjgh")), Fault.UNREADABLE),
        ("\n".join(f"{number}. Chapitre du livre ........ {number * 7}" for number in range(1, 9)), Fault.BOILERPLATE),
        ("Tous droits réservés. ISBN 978-2-01. Dépôt légal : juin 2019. Imprimé pour les éditions.", Fault.BOILERPLATE),
        ("cliquez ici pour lire " * 60, Fault.REPETITIVE),
        ("\n".join(f"Télécharger la leçon {n} sur 50 du cours" for n in range(1, 51)), Fault.REPETITIVE),
        ("\n".join(["Exercice : calculer l'aire d'un carré de côté 12 cm."] * 40), Fault.REPETITIVE),
    ],
)  # fmt: skip
def test_a_bad_page_gets_its_fault_and_a_reason(text, fault):
    verdict = inspect(text)
    assert verdict.fault is fault
    assert verdict.reason
    assert verdict.score < 0.5


def test_a_page_that_recognition_doubts_is_refused():
    assert inspect(FRENCH, ocr_confidence=41.0).fault is Fault.LOW_OCR_CONFIDENCE
    assert inspect(FRENCH, ocr_confidence=92.0).fault is None


def test_a_doubtful_scan_is_worth_a_look_but_valid():
    assert inspect(FRENCH, ocr_confidence=65.0).valid
    assert inspect(FRENCH, ocr_confidence=65.0).reason


def test_a_page_in_another_language_than_declared_is_refused():
    assert inspect(FRENCH, expected=Language.ARABIC).fault is Fault.WRONG_LANGUAGE
    assert inspect(ARABIC, expected=Language.HASSANIYA).valid
    english = (
        "The cell is the basic unit of all living things and it contains a nucleus with the genetic information. " * 3
    )
    assert inspect(english).fault is Fault.WRONG_LANGUAGE


def test_pictures_help_where_the_text_layer_is_broken_and_not_where_the_page_is_dull():
    assert inspect("").wants_ocr
    assert inspect(" ".join(word[::-1] for word in ARABIC.split())).wants_ocr
    assert not inspect("Page 12").wants_ocr


def test_a_broken_map_shows_over_a_whole_document():
    assert map_is_broken([ARABIC] * 20 + ["الرةقمية والولصول ةقرص لصيغة"] * 20)
    assert not map_is_broken([ARABIC] * 20)
    assert not map_is_broken([])


@given(st.text(max_size=300))
def test_any_page_gets_a_verdict(text):
    verdict = inspect(text)
    assert 0.0 <= verdict.score <= 1.0
    assert verdict.valid or verdict.reason


@pytest.mark.parametrize(
    "template",
    [
        "{n}) Résoudre dans R l'équation {a}x + {b} = {c}, puis vérifier la solution trouvée.",
        "{n}) Un mobile de masse {a} kg roule à {b} m/s. Calculer son énergie cinétique. Conclure sur sa vitesse.",
        "{n}) احسب مساحة مستطيل طوله {a} سم وعرضه {b} سم ثم قارنها بمساحة مربع ضلعه {c} سم.",
        "Convertir {a},5 km en mètres puis en centimètres.",
    ],
)
@pytest.mark.parametrize("separator", ["\n", " "])
def test_a_sheet_of_exercises_of_one_template_is_valid(template, separator):
    sheet = separator.join(template.format(n=n, a=n * 7 % 31, b=n * 11 % 43, c=n * n % 97) for n in range(1, 41))
    assert inspect(sheet).fault is None
