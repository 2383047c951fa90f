"""Arabic lines put together from glyphs, whatever the producer's order, gaps and leftovers."""

from dataclasses import replace

import pytest

from server.ingestion.extraction import lines
from server.ingestion.extraction.glyphs import GROUP, UNKNOWN, Glyph
from server.ingestion.extraction.layout import rows
from server.ingestion.extraction.righttoleft import reading_order
from server.ingestion.extraction.unmapped import Unmapped

SIZE = 10.0
ARABIC_FONT, LATIN_FONT = 1, 2


def drawn(text: str, x: float = 0.0, y: float = 0.0, font: int = ARABIC_FONT, width: float = 5.0) -> list[Glyph]:
    """Glyphs from left to right as they stand on the page; vowel marks have no width."""
    glyphs = []
    for character in text:
        advance = 0.0 if "\u064b" <= character <= "\u0652" else width
        glyphs.append(Glyph(character, x, x + advance, y, SIZE, (font, ord(character))))
        x += advance
    return glyphs


def read(glyphs: list[Glyph]) -> list[str]:
    """The lines of a page with these glyphs, as they are read."""
    return [reading_order(row).strip() for row in rows(lines.pieces(glyphs), right_to_left=True)]


def visual(text: str) -> str:
    return text[::-1]


def resolved(glyphs: list[Glyph]) -> str:
    unmapped = Unmapped()
    return unmapped.resolve(unmapped.learn("\n".join(read(unmapped.hold(glyphs)))))


def test_marks_raised_off_the_line_stay_on_their_letters() -> None:
    raised = [replace(glyph, y=3.0) if not glyph.x1 > glyph.x0 else glyph for glyph in drawn(visual("دَرْسٌ جَدِيدٌ"))]
    assert read(raised) == ["دَرْسٌ جَدِيدٌ"]


def test_letters_that_a_font_raises_do_not_part_a_word() -> None:
    glyphs = drawn(visual("المحمدية"))
    glyphs[2:4] = [replace(glyph, y=4.0) for glyph in glyphs[2:4]]
    assert read(glyphs) == ["المحمدية"]


def test_a_line_drawn_in_reading_order_is_the_same_line() -> None:
    word = drawn(visual("مدرسة جديدة"))
    assert read(word[::-1]) == ["مدرسة جديدة"]


def test_marks_drawn_behind_their_letters_stay_with_them_when_a_line_is_drawn_backwards() -> None:
    letters, x = [], 100.0
    for character in "كَتَبَ":
        advance = 0.0 if character == "\u064e" else 5.0
        x -= advance
        letters.append(Glyph(character, x, x + advance, 0.0, SIZE, (ARABIC_FONT, ord(character))))
    assert read(letters) == ["كَتَبَ"]


def test_words_without_drawn_spaces_are_parted_by_their_gaps() -> None:
    glyphs = drawn(visual("كتاب"), x=30.0) + drawn(visual("جديد"), x=7.5)
    assert read(glyphs) == ["كتاب جديد"]


def test_spaces_drawn_apart_from_the_words_fall_between_them() -> None:
    spaces = [Glyph(" ", x, x + 3, 0.0, SIZE, (ARABIC_FONT, 3)) for x in (25.0, 33.0, 56.0)]
    latin = drawn("p", x=28.0, font=LATIN_FONT) + drawn("2017", x=36.0, font=LATIN_FONT)
    assert read([*drawn(visual("قبل"), x=59.0), *spaces, *latin]) == ["قبل p 2017"]


def test_words_of_another_font_and_height_stand_in_their_line() -> None:
    latin = [replace(glyph, size=13.0, y=-1.0) for glyph in drawn("Newton", x=25.0, font=LATIN_FONT)]
    first = drawn(visual("قانون "), x=55.0) + latin + drawn(visual(" الأول"), x=-5.0)
    second = drawn(visual("سطر ثان من النص"), y=-15.0)
    assert read(second + first) == ["قانون Newton الأول", "سطر ثان من النص"]


@pytest.mark.parametrize("stroke", ["A", "9", "$"])
def test_strokes_that_stretch_words_are_no_characters(stroke: str) -> None:
    glyphs = drawn(visual("السـكان تحـولات كبـيرة".replace("ـ", stroke)))
    assert read(glyphs) == ["السكان تحولات كبيرة"]


def test_a_sign_between_unknowns_is_no_stroke() -> None:
    assert read(drawn(visual("س+ص = ع"))) == ["س+ص = ع"]


def test_cells_are_read_one_by_one() -> None:
    glyphs = (
        drawn(visual("السرعة"), x=200.0) + drawn("v", x=120.0, font=LATIN_FONT) + drawn("ms", x=40.0, font=LATIN_FONT)
    )
    assert read(glyphs) == ["السرعة\tv\tms"]


def test_a_mark_that_repeats_its_letter_adds_the_mark_only() -> None:
    letters = drawn(visual("نحو"))
    mark = Glyph("نَّ", letters[2].x0 + 1, letters[2].x0 + 1, 0.0, SIZE, (ARABIC_FONT, 900))
    assert read([*letters[:2], mark, letters[2]]) == ["نَّحو"]


def test_a_letter_without_width_that_the_file_names_there_is_kept() -> None:
    alef = Glyph("اً", 0.0, 0.0, 0.0, SIZE, (ARABIC_FONT, GROUP))
    assert read([alef, *drawn(visual("عقل"))]) == ["عقلاً"]


def unknown(glyphs: list[Glyph], letter: str, number: int = 500) -> list[Glyph]:
    return [replace(one, text=UNKNOWN, name=(ARABIC_FONT, number)) if one.text == letter else one for one in glyphs]


def test_a_missing_letter_is_told_by_the_words_it_stands_in() -> None:
    text = "إلى المدرسة إن هذا إذا كان إلا أن إنسان إعلان"
    assert resolved(unknown(drawn(visual(text)), "إ")) == text


def test_a_letter_whose_text_its_mark_has_gets_it_everywhere() -> None:
    glyphs = unknown(drawn(visual("أحمد أَين")), "أ")
    glyphs = [replace(one, text="أَ") if one.text == "\u064e" else one for one in glyphs]
    assert resolved(glyphs) == "أحمد أَين"


def test_a_glyph_that_shares_its_letter_with_its_neighbour_is_the_letter_where_it_stands_alone() -> None:
    text = "الحرب الحروب الحربي الحلفاء الحين"
    glyphs: list[Glyph] = []
    for one in drawn(visual(text)):
        if one.text != "ح":
            glyphs.append(one)
            continue
        first_drawn = one.x0 < 20
        if first_drawn:
            glyphs.append(Glyph("ح", one.x0, one.x0 + 2, 0.0, SIZE, (ARABIC_FONT, 600)))
        left = one.x0 + 2 if first_drawn else one.x0
        glyphs.append(replace(one, x0=left, text=UNKNOWN, name=(ARABIC_FONT, 601)))
    assert resolved(glyphs) == text


@pytest.mark.parametrize(
    ("mapped", "text"), [("الإللكتروني", "الإلكتروني"), ("للكتاب", "للكتاب"), ("وللكتاب", "وللكتاب")]
)
def test_a_glyph_that_repeats_the_letter_behind_it_has_only_its_own(mapped: str, text: str) -> None:
    glyphs = drawn(visual(mapped.replace("للك", "لك")))
    assert resolved([replace(one, text="لك") if one.text == "ك" else one for one in glyphs]) == text


def test_unmapped_marks_and_ornaments_are_nothing() -> None:
    marks = [replace(one, text=UNKNOWN) if one.text == "\u0651" else one for one in drawn(visual("محمّد معلّم مدرّس"))]
    assert resolved(marks) == "محمد معلم مدرس"


def test_unmapped_glyphs_far_from_arabic_letters_are_gone() -> None:
    assert resolved([*drawn("F"), Glyph(UNKNOWN, 5.0, 10.0, 0.0, SIZE, (LATIN_FONT, 9)), *drawn("m", x=10.0)]) == "F m"


def test_unmapped_glyphs_beside_a_whole_word_are_in_it() -> None:
    word = Glyph("مدرسة", 10.0, 14.0, 0.0, SIZE, (ARABIC_FONT, 700))
    rest = [Glyph(UNKNOWN, x, x + 3, 0.0, SIZE, (ARABIC_FONT, 701 + int(x))) for x in (0.0, 3.0, 6.0)]
    assert resolved([*rest, word]) == "مدرسة"
