"""PDF pages: the right tool for each, and the reasons why a file gives none."""

import re
from pathlib import Path

import pytest

from server.ingestion.extraction import ocr
from server.ingestion.extraction.glyphs import Glyph, GlyphReader
from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Method
from server.ingestion.extraction.pdf import PdfFile, arabic_share, printed
from tests.unit.ingestion import pdfs

SAMPLES = Path(__file__).parents[3] / "samples"


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    return path


def failure(path: Path, limits: Limits | None = None) -> Failure:
    with pytest.raises(ExtractionFailed) as failed:
        list(PdfFile(path, limits or Limits()).pages())
    return failed.value.failure


def test_a_french_page_is_read_from_its_text_layer_with_its_formulas() -> None:
    page = next(PdfFile(SAMPLES / "biologie_photosynthese.pdf", Limits()).pages())
    assert page.method is Method.TEXT_LAYER
    assert "6 CO₂ + 6 H₂O → C₆H₁₂O₆ + 6 O₂" in page.text


def test_an_arabic_page_is_put_into_reading_order() -> None:
    page = next(PdfFile(SAMPLES / "tarikh_mauritania.pdf", Limits()).pages())
    assert page.method is Method.REORDERED
    assert "فسيطروا على سجلماسة وأودغست سنة 1054، وكانتا أهم مركزين" in " ".join(page.text.split())


def test_reading_goes_on_at_a_later_page() -> None:
    assert [page.number for page in PdfFile(SAMPLES / "maths_suites.pdf", Limits()).pages(first=2)] == [2, 3]


def test_a_locked_file_is_encrypted(tmp_path: Path) -> None:
    assert failure(written(tmp_path, pdfs.encrypted())) is Failure.ENCRYPTED


def test_a_truncated_file_is_broken(tmp_path: Path) -> None:
    whole = (SAMPLES / "maths_suites.pdf").read_bytes()
    assert failure(written(tmp_path, whole[:600])) is Failure.BROKEN_FILE


def test_a_file_with_too_many_pages_is_refused(tmp_path: Path) -> None:
    assert failure(written(tmp_path, pdfs.blank(30)), Limits(pages=29)) is Failure.TOO_MANY_PAGES


def test_a_blank_page_is_an_empty_page(tmp_path: Path) -> None:
    (page,) = PdfFile(written(tmp_path, pdfs.blank(1)), Limits()).pages()
    assert page.text == ""


@pytest.mark.skipif(not ocr.available(), reason="Tesseract is not installed")
def test_a_scan_is_recognised_with_a_confidence(tmp_path: Path) -> None:
    (page,) = PdfFile(written(tmp_path, pdfs.scan(SAMPLES / "physique_newton.pdf")), Limits(), "fr").pages()
    assert page.method is Method.OCR
    assert page.confidence is not None
    assert page.confidence > 80
    assert "principe d'inertie" in page.text.replace("’", "'")


def test_the_share_of_arabic_letters_is_of_all_letters() -> None:
    assert arabic_share("كتاب book 123") == 0.5
    assert arabic_share("123") == 0.0


def test_words_of_a_recognised_page_come_back_as_lines_with_their_confidence() -> None:
    head = "level\tpage\tblock\tpar\tline\tword\tleft\ttop\twidth\theight\tconf\ttext\n"
    row = "5\t1\t{}\t1\t{}\t1\t0\t0\t1\t1\t{}\t{}\n"
    table = (
        head
        + row.format(1, 1, 90, "La")
        + row.format(1, 1, 80, "loi")
        + row.format(1, 2, 70, "de")
        + row.format(2, 1, 95, "N")
    )
    found = ocr.parse_tsv(table + "4\t1\t1\t1\t1\t0\t0\t0\t1\t1\t-1\t\n")
    assert found.text == "La loi\nde\n\nN"
    assert found.confidence == pytest.approx((90 * 2 + 80 * 3 + 70 * 2 + 95) / 8)


def test_ligatures_of_tex_fonts_without_a_map_are_letters() -> None:
    assert printed("scienti\x1cque, di\x1bérence \x15 con\x1cguration") == "scientifique, différence – configuration"


FORMULAS = """<p>La vitesse vaut c = 3 × 10<sup>8</sup> m·s<sup>−1</sup> ; l'énergie E = mc<sup>2</sup>, et les ions
SO<sub>4</sub><sup>2−</sup> de H<sub>2</sub>SO<sub>4</sub> le 1<sup>er</sup> mars.</p>"""


def test_raised_and_lowered_signs_are_kept_in_their_line(tmp_path: Path) -> None:
    (page,) = PdfFile(written(tmp_path, typeset(FORMULAS, "DejaVu Sans")), Limits()).pages()
    assert "3 × 10⁸ m·s⁻¹ ; l'énergie E = mc², et" in page.text
    assert "SO₄²⁻ de H₂SO₄ le 1er mars" in " ".join(page.text.split())


VOWELLED = """<p dir="rtl" lang="ar">كَانَ الأَوْلَادُ يَلْعَبُونَ فِي السَّاحَةِ، فَلَمَّا سَمِعُوا الجَرَسَ دَخَلُوا إِلَى الأَقْسَامِ وَجَلَسُوا فِي
أَمَاكِنِهِمْ صَامِتِينَ. إِنَّ اللُّغَةَ العَرَبِيَّةَ بَحْرٌ لَا سَاحِلَ لَهُ، فَتَعَلَّمُوا قَوَاعِدَهَا.</p>"""


@pytest.mark.parametrize("font", ["Amiri", "Noto Naskh Arabic"])
def test_a_vowelled_page_is_read_from_its_text_layer(font: str, tmp_path: Path) -> None:
    (page,) = PdfFile(written(tmp_path, typeset(VOWELLED, font)), Limits()).pages()
    assert page.method is Method.REORDERED
    bare = re.sub("[\u064b-\u0652]", "", " ".join(page.text.split()))
    assert bare.startswith("كان الأولاد يلعبون في الساحة، فلما سمعوا الجرس دخلوا إلى الأقسام وجلسوا في أماكنهم")
    assert bare.endswith("إن اللغة العربية بحر لا ساحل له، فتعلموا قواعدها.")


def typeset(body: str, font: str) -> bytes:
    weasyprint = pytest.importorskip("weasyprint", exc_type=OSError)
    markup = f"<html lang=fr><style>body {{ font: 13pt '{font}' }}</style><body>{body}</body></html>"
    return bytes(weasyprint.HTML(string=markup).write_pdf())


def one_page(content: bytes) -> bytes:
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    catalogue, pages = b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    return pdfs.assemble([catalogue, pages, page, pdfs.stream(content), font])


def glyphs_of(path: Path) -> list[Glyph]:
    glyphs = GlyphReader(path).read(1)
    assert glyphs is not None
    return glyphs


@pytest.mark.parametrize(("text", "expected"), [("كتاب", ["كتاب"]), ("", [""]), ("ك" * 50, ["b", "a"])])
def test_the_text_that_a_file_names_for_a_group_of_glyphs_counts(
    text: str, expected: list[str], tmp_path: Path
) -> None:
    named = b"BT /F1 12 Tf 10 100 Td /Span << /ActualText <FEFF%s> >> BDC (ba) Tj EMC ET"
    path = written(tmp_path, one_page(named % text.encode("utf-16-be").hex().encode()))
    assert [one.text for one in glyphs_of(path)] == expected


def test_text_across_the_page_has_lines_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, one_page(b"BT /F1 12 Tf 0 1 -1 0 50 100 Tm (ab) Tj ET"))
    first, second = glyphs_of(path)
    assert (first.quarter, first.x0, first.y) == (1, 100.0, -50.0)
    assert second.x0 == first.x1


def test_glyphs_drawn_twice_to_embolden_count_once(tmp_path: Path) -> None:
    path = written(tmp_path, one_page(b"BT /F1 12 Tf 10 100 Td (a) Tj 0.2 0 Td (a) Tj 20 0 Td (a) Tj ET"))
    assert len(glyphs_of(path)) == 2


def test_a_scan_in_no_known_language_is_read_again_as_french(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def recognise(image: bytes, language: str = "") -> ocr.Recognised:
        asked.append(language)
        return ocr.Recognised(
            "Le principe d'inertie est une loi de la physique. " * 8, 50.0 if len(asked) == 3 else 90.0
        )

    monkeypatch.setattr(ocr, "recognise", recognise)
    path = written(tmp_path, pdfs.scan(SAMPLES / "physique_newton.pdf", dpi=50))
    file = PdfFile(path, Limits())
    list(file.pages())
    assert asked == ["", "fr"]
    list(file.pages())
    assert asked == ["", "fr", "fr", ""]
