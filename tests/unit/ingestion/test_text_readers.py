"""Plain text, Markdown, web pages and Word documents."""

from pathlib import Path

import docx
import pytest

from server.ingestion.extraction import docx as docx_reader
from server.ingestion.extraction import html, offline, plain
from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits

FRENCH = "L'élève a réussi son examen à l'été : œuvre complète, cœur, naïveté. " * 5
ARABIC = "الفلسفة كلمة يونانية الأصل معناها محبة الحكمة وهي تفكير نقدي. " * 5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_french_text_is_read_in_any_usual_encoding(encoding: str) -> None:
    assert plain.decode(FRENCH.encode(encoding)) == FRENCH


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1256", "iso8859_6"])
def test_arabic_text_is_read_in_any_usual_encoding(encoding: str) -> None:
    assert plain.decode(ARABIC.encode(encoding)) == ARABIC


def test_form_feeds_part_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Une.\fDeux.")
    assert [(page.number, page.text) for page in plain.read(path, Limits())] == [(1, "Une."), (2, "Deux.")]


def test_a_long_text_is_parted_between_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    paragraph = "Un paragraphe de cours assez long pour compter. " * 20
    path.write_text("\n\n".join([paragraph] * 40))
    pages = list(plain.read(path, Limits()))
    assert len(pages) > 1
    assert all(page.text.startswith("Un paragraphe") and page.text.endswith("compter.") for page in pages)


def test_a_text_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * 1_001)
    with pytest.raises(ExtractionFailed) as failed:
        list(plain.read(path, Limits(characters=1_000)))
    assert failed.value.failure is Failure.TOO_LARGE


ARTICLE = (
    "<p>Une suite géométrique de raison q vérifie v<sub>n+1</sub> = q × v<sub>n</sub>.</p>"
    "<p>Le nombre x<sup>2</sup> reste un carré, et toute suite croissante et majorée converge.</p>"
    + "<p>Le théorème affirme que la limite existe, sans donner sa valeur dans tous les cas.</p>"
    * 4
)
PAGE = f"""<html><head><title>Les suites</title><script>alert('x')</script></head><body>
<nav><a href="/">Accueil</a> <a href="/contact">Contact</a></nav><article><h1>Les suites</h1>{ARTICLE}</article>
<footer>Tous droits réservés</footer></body></html>"""


def test_a_web_page_gives_its_article_without_navigation() -> None:
    text = html.main_text(PAGE)
    assert "suite géométrique" in text
    assert "Accueil" not in text
    assert "alert" not in text


def test_raised_and_lowered_characters_stay_readable() -> None:
    text = html.main_text(PAGE)
    assert "x²" in text
    assert "vₙ₊₁" in text


@pytest.mark.parametrize(
    ("text", "up", "down"),
    [("2", "²", "₂"), ("n+1", "ⁿ⁺¹", "ₙ₊₁"), ("max", "^max", "_max"), ("er", "er", "_er"), (" ", " ", " ")],
)
def test_raised_and_lowered_text_as_characters(text: str, up: str, down: str) -> None:
    assert (offline.raised(text), offline.lowered(text)) == (up, down)


def test_a_page_is_decoded_as_it_declares() -> None:
    markup = f'<html><head><meta charset="windows-1256"></head><body><p>{ARABIC}</p></body></html>'
    assert html.decode_html(markup.encode("cp1256")) == markup


def test_the_title_of_a_page_is_found() -> None:
    assert html.title(PAGE) == "Les suites"


def test_an_external_entity_is_not_followed() -> None:
    markup = '<!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/passwd">]><html><body><p>&x;</p></body></html>'
    assert "root:" not in html.main_text(markup)


def test_a_word_document_gives_paragraphs_tables_and_pages(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_paragraph("Définition de la vitesse.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "grandeur", "unité"
    document.add_page_break()
    run = document.add_paragraph("x").add_run("2")
    run.font.superscript = True
    path = tmp_path / "a.docx"
    document.save(str(path))
    first, second = docx_reader.read(path, Limits())
    assert first.text == "Définition de la vitesse.\n\ngrandeur | unité"
    assert second.text == "x²"


def test_what_is_no_archive_is_a_broken_document(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ExtractionFailed) as failed:
        list(docx_reader.read(path, Limits()))
    assert failed.value.failure is Failure.BROKEN_FILE


def test_a_few_broken_bytes_do_not_spoil_a_text() -> None:
    assert plain.decode(FRENCH.encode() + b"\xed\xa0\x80 fin") == f"{FRENCH} fin"
