"""PDF pages: the right tool for each, and the reasons why a file gives none."""

from pathlib import Path

import pytest

from server.ingestion.extraction import ocr
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
