"""Every page gets a verdict with a reason; good pages are kept."""

from server.ingestion.extraction.page import Method, Page
from server.ingestion.judging import JudgedPage, PageVerdict, judge
from server.text.language import Language

LESSON = (
    "La photosynthèse est le processus par lequel les plantes vertes fabriquent de la matière organique à partir de "
    "dioxyde de carbone et d'eau, en utilisant l'énergie de la lumière. Elle libère du dioxygène dans l'atmosphère."
)
ARABIC = (
    "الفلسفة كلمة يونانية الأصل معناها محبة الحكمة وهي تفكير نقدي يسأل عن أسس المعرفة والوجود والقيم ولا يكتفي بالآراء"
)
EXERCISE = (
    "Exercice. Une voiture de masse {} kg passe de 0 à {} km/h en {} s sur une route horizontale. Calculer son "
    "accélération, supposée constante, puis la somme des forces qui s'exercent sur elle pendant ce mouvement."
)


def pages(*texts: str, method: Method = Method.PLAIN, confidence: float | None = None) -> list[Page]:
    return [Page(number, text, method, confidence) for number, text in enumerate(texts, start=1)]


def only(judged: list[JudgedPage]) -> JudgedPage:
    (page,) = judged
    return page


def test_a_good_page_is_indexed_in_its_language() -> None:
    page = only(judge(pages(LESSON)))
    assert (page.verdict, page.language, page.reason) == (PageVerdict.INDEXED, Language.FRENCH, "")


def test_pages_of_two_languages_keep_their_own() -> None:
    assert [page.language for page in judge(pages(LESSON, ARABIC))] == [Language.FRENCH, Language.ARABIC]


def test_a_page_that_ocr_could_hardly_read_waits_for_a_person() -> None:
    page = only(judge(pages(LESSON, method=Method.OCR, confidence=45.0)))
    assert page.verdict is PageVerdict.REVIEW
    assert page.flagged
    assert "45 %" in page.reason


def test_a_doubtful_scan_is_indexed_and_flagged() -> None:
    page = only(judge(pages(LESSON, method=Method.OCR, confidence=66.0)))
    assert page.verdict is PageVerdict.INDEXED
    assert page.flagged


def test_a_title_page_is_left_out_with_its_reason() -> None:
    first, _ = judge(pages("Physique Terminale", LESSON))
    assert first.verdict is PageVerdict.REJECTED
    assert "words" in first.reason


def test_a_document_of_a_few_words_is_indexed_all_the_same() -> None:
    assert only(judge(pages("La dérivée de x² est 2x."))).verdict is PageVerdict.INDEXED


def test_a_document_that_repeats_itself_is_indexed_and_flagged_but_such_a_page_in_a_book_is_left_out() -> None:
    sentence = "La mitose est la division de la cellule mère en deux cellules filles identiques. "
    [alone] = judge(pages(sentence * 20))
    assert (alone.verdict, alone.flagged) == (PageVerdict.INDEXED, True)
    [_, inside] = judge(pages(LESSON, sentence * 20))
    assert inside.verdict is PageVerdict.REJECTED


def test_a_short_page_that_nobody_chose_is_left_out() -> None:
    [page] = judge(pages("Trop court."), chosen=False)
    assert page.verdict is PageVerdict.REJECTED


def test_a_page_that_repeats_an_earlier_one_is_linked_to_it() -> None:
    _, second = judge(pages(LESSON, LESSON.replace("dioxygène", "dioxygene") + " 2"))
    assert (second.verdict, second.duplicate_of) == (PageVerdict.DUPLICATE, 1)


def test_exercises_that_differ_in_their_numbers_are_all_kept() -> None:
    judged = judge(pages(*(EXERCISE.format(900 + 50 * n, 60 + 3 * n, 8 + n) for n in range(6))))
    assert all(page.verdict is PageVerdict.INDEXED for page in judged)


def test_a_broken_character_map_shows_over_all_pages() -> None:
    broken = ARABIC.replace("المعرفة", "المةعرف")
    judged = judge(pages(*(f"{broken} {number}" for number in range(5)), method=Method.REORDERED))
    assert all(page.verdict is PageVerdict.REVIEW for page in judged)


def test_the_language_its_owner_names_is_kept() -> None:
    assert only(judge(pages(ARABIC), Language.HASSANIYA)).language is Language.HASSANIYA


def test_a_page_in_a_foreign_language_is_left_out() -> None:
    english = (
        "The photosynthesis is the process by which green plants make organic matter from carbon dioxide and water, "
        "using the energy of light; they release oxygen into the air, which all animals need in order to breathe. "
        "This happens in the leaves of every plant, wherever there is enough light, water and warmth during the day."
    )
    first, _ = judge(pages(english, LESSON))
    assert first.verdict is PageVerdict.REJECTED
    assert "language" in first.reason
