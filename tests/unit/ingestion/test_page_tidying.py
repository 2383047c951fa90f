"""From lines on paper to text: cleaning, running heads, wrapped lines."""

import pytest

from server.ingestion import furniture, paragraphs
from server.ingestion.extraction.cleaning import clean


@pytest.mark.parametrize(
    ("extracted", "expected"),
    [
        ("mathé\u0002\r\nmatiques", "mathématiques"),
        ("mathé-\nmatiques", "mathématiques"),
        ("aujourd'hui\u00a0: x² + y₁", "aujourd'hui : x² + y₁"),
        ("\ufb01n", "fin"),
        ("\ufee3\ufeaa\ufead\ufeb3\ufe94", "مدرسة"),
        ("\u202eabc\u202c", "abc"),
        ("a\u0000b", "ab"),
        ("(cid:12)x\ue001", "x"),
        ("مَدْرَسَة", "مَدْرَسَة"),
        ("كتـــاب", "كتاب"),
        ("\ud800x", "x"),
    ],
)
def test_what_extraction_leaves_behind_goes_and_the_rest_stays(extracted: str, expected: str) -> None:
    assert clean(extracted) == expected


def book(pages: int, first: int = 1) -> list[str]:
    head = "Cours de physique, terminale"
    return [
        f"{head}\nUne page {'très ' * place}différente\nsuite de la page {place * 7}\n{first + place}"
        for place in range(pages)
    ]


def test_running_heads_and_page_numbers_go() -> None:
    stripped = furniture.strip(book(6))
    assert not any("terminale" in page for page in stripped)
    assert [page.split("\n")[-1] for page in stripped] == [f"suite de la page {place * 7}" for place in range(6)]


def test_page_numbers_may_start_anywhere() -> None:
    assert all(page.endswith(str(place * 7)) for place, page in enumerate(furniture.strip(book(6, first=40))))


def test_short_documents_keep_their_repeated_titles() -> None:
    assert all("terminale" in page for page in furniture.strip(book(3)))


def test_lines_that_are_numbers_but_do_not_count_stay() -> None:
    pages = [f"Exercice\nréponse\n{value}" for value in (12, 5, 90, 7)]
    assert [page.split("\n")[-1] for page in furniture.strip(pages)] == ["12", "5", "90", "7"]


@pytest.mark.parametrize("form", ["- {} -", "Page {}/6", "صفحة {}", "{}."])
def test_page_numbers_of_all_forms_go(form: str) -> None:
    pages = [f"Texte {'x' * place} de la page\n{form.format(place + 1)}" for place in range(5)]
    assert all(page.endswith("de la page") for page in furniture.strip(pages))


FULL = "une ligne qui remplit toute la largeur de la page imprimée"


def test_wrapped_lines_become_one_paragraph() -> None:
    text = f"{FULL}\n{FULL}\net finit ici."
    assert paragraphs.join_lines(text) == f"{FULL} {FULL} et finit ici."


def test_headings_and_lists_keep_their_lines() -> None:
    text = f"1. Définition\n{FULL}\n{FULL}\nfin.\n- premier\n- second"
    assert paragraphs.join_lines(text).split("\n")[0] == "1. Définition"
    assert paragraphs.join_lines(text).split("\n")[-2:] == ["- premier", "- second"]


def test_a_list_of_questions_is_left_alone() -> None:
    text = "Question une ?\nQuestion deux, plus longue que les autres questions ?\nTrois ?\nQuatre ?\nCinq ?"
    assert paragraphs.join_lines(text) == text


def test_a_number_broken_at_the_line_end_comes_together() -> None:
    assert "12 000" in paragraphs.join_lines(f"{FULL}\n{FULL} dépasse 12\n000.")


@pytest.mark.parametrize(
    ("extracted", "expected"),
    [
        ("manipu\u2010\r\nlation", "manipulation"),
        ("c’est\ufffeà-dire", "c’est-à-dire"),
        ("c’est-à\ufffedire", "c’est-à-dire"),
        ("Saint\ufffeSimon", "Saint-Simon"),
        ("quarante-\nquatre", "quarante-quatre"),
        ("dit\ufffeelle", "dit-elle"),
        ("5 -\n3", "5 -\n3"),
        ("fin -\nsuite", "fin -\nsuite"),
    ],
)
def test_words_divided_at_line_ends_are_whole_and_compounds_keep_their_hyphen(extracted: str, expected: str) -> None:
    assert clean(extracted) == expected
