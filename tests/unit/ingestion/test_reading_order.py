"""Right-to-left lines out of their visual order, and columns in the order they are read."""

import pytest

from server.ingestion.extraction.layout import Piece, rows
from server.ingestion.extraction.righttoleft import Unit, brackets_are_mirrored, reading_order


def drawn(visual: str) -> list[Unit]:
    """A line as it stands on the page, from left to right."""
    return [Unit(character, float(place)) for place, character in enumerate(visual)]


def visual(logical_right_to_left: str) -> str:
    return logical_right_to_left[::-1]


def test_an_arabic_line_is_read_from_the_right() -> None:
    assert reading_order(drawn(visual("السلام عليكم"))) == "السلام عليكم"


def test_numbers_and_latin_words_in_it_keep_their_direction() -> None:
    line = "سنة " + visual("1960") + " في " + visual("New York") + " كانت"
    assert reading_order(drawn(visual(line))) == "سنة 1960 في New York كانت"


def test_a_range_of_years_runs_from_the_right() -> None:
    line = "بين " + visual("1990") + " - " + visual("1995") + " كانت الحرب"
    assert reading_order(drawn(visual(line))) == "بين 1990 - 1995 كانت الحرب"


def test_a_formula_in_it_keeps_its_direction() -> None:
    line = "المعادلة " + visual("f(x) = 2x + 1") + " خطية"
    assert reading_order(drawn(visual(line))) == "المعادلة f(x) = 2x + 1 خطية"


def test_a_decimal_number_stays_whole() -> None:
    line = "القيمة " + visual("3.14") + " تقريبا"
    assert reading_order(drawn(visual(line))) == "القيمة 3.14 تقريبا"


@pytest.mark.parametrize("written", ["20 m/s", "42 °C", "1,5 kg"])
def test_a_unit_of_measure_follows_its_number(written: str) -> None:
    number, unit = written.split(" ")
    line = "بلغت " + visual(number) + " " + (visual(unit) if "°" not in unit else unit) + " تقريبا"
    assert reading_order(drawn(visual(line))) == f"بلغت {written} تقريبا"


def test_a_name_with_a_number_keeps_its_order() -> None:
    line = "برنامج " + visual("Excel 2016") + " للجداول"
    assert reading_order(drawn(visual(line))) == "برنامج Excel 2016 للجداول"


def test_an_address_does_not_turn_a_line() -> None:
    line = visual("www.education.gov.mr") + " لمزيد من المعلومات"
    assert reading_order(drawn(visual(line))) == "www.education.gov.mr لمزيد من المعلومات"


def test_cells_of_a_row_are_read_from_the_right() -> None:
    assert reading_order(drawn(visual("السرعة\t" + visual("v") + "\t" + visual("m/s")))) == "السرعة\tv\tm/s"


def test_a_ligature_keeps_the_order_of_its_letters() -> None:
    units = [Unit("م", 0.0), Unit("ا", 1.0), Unit("لا", 2.0), Unit("س", 3.0)]
    assert reading_order(units) == "سلاام"


def test_vowel_marks_stay_behind_their_letters() -> None:
    line = "مَدْرَسَةٌ"
    assert reading_order(drawn(visual(line))) == line


def test_a_french_line_is_left_as_it_is() -> None:
    assert reading_order(drawn("La vitesse v = 3 m/s")) == "La vitesse v = 3 m/s"


def test_an_arabic_word_in_a_french_line_is_turned() -> None:
    assert reading_order(drawn("le mot " + visual("كتاب") + " signifie livre")) == "le mot كتاب signifie livre"


def test_mirrored_brackets_are_noticed_and_turned() -> None:
    line = visual("كلمة )بين قوسين( هنا")
    wrong = reading_order(drawn(line))
    assert brackets_are_mirrored(wrong)
    assert reading_order(drawn(line), mirrored=True) == "كلمة (بين قوسين) هنا"


def test_right_brackets_are_left_alone() -> None:
    assert not brackets_are_mirrored("كلمة (بين قوسين) هنا")


def piece(text: str, x0: float, y0: float, width: float = 100.0) -> Piece:
    units = tuple(Unit(character, x0 + place) for place, character in enumerate(text))
    return Piece(units, x0, y0, x0 + width, y0 + 10)


def lines(pieces: list[Piece], *, right_to_left: bool) -> list[str]:
    return ["".join(unit.text for unit in row) for row in rows(pieces, right_to_left=right_to_left)]


def two_columns() -> list[Piece]:
    left = [piece(f"left{number}", 0, 100 - 12 * number) for number in range(5)]
    right = [piece(f"right{number}", 200, 100 - 12 * number) for number in range(5)]
    return [one for pair in zip(left, right, strict=True) for one in pair]


def test_the_right_column_comes_first_on_an_arabic_page() -> None:
    found = lines(two_columns(), right_to_left=True)
    assert found == [f"right{number}" for number in range(5)] + [f"left{number}" for number in range(5)]


def test_the_left_column_comes_first_on_a_french_page() -> None:
    found = lines(two_columns(), right_to_left=False)
    assert found[0] == "left0"
    assert found[5] == "right0"


def test_a_title_across_both_columns_comes_before_them() -> None:
    found = lines([*two_columns(), piece("title", 0, 130, width=300)], right_to_left=True)
    assert found[:2] == ["title", "right0"]


def test_pieces_on_one_line_are_joined_by_a_space() -> None:
    assert lines([piece("b", 150, 50), piece("a", 0, 51)], right_to_left=False) == ["a\tb"]


def test_a_page_without_text_has_no_lines() -> None:
    assert lines([], right_to_left=True) == []
