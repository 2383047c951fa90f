"""Small PDF files made in the tests: blank, locked, scanned, and one that unpacks to far more than it is."""

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pypdfium2


def assemble(objects: list[bytes], trailer: bytes = b"") -> bytes:
    """Number the objects and write the cross-reference table; the first is the catalogue."""
    out = BytesIO()
    out.write(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for offset in offsets:
        out.write(b"%010d 00000 n \n" % offset)
    out.write(b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start))
    return out.getvalue()


def stream(content: bytes, fields: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), fields, content)


def blank(pages: int) -> bytes:
    kids = b" ".join(b"%d 0 R" % (3 + number) for number in range(pages))
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] >>"
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages),
            *[page] * pages,
        ]
    )


def encrypted() -> bytes:
    """A file that asks for a password: its keys fit no empty one."""
    keys = b"/Filter /Standard /V 2 /R 3 /Length 128 /P -44 /O <%s> /U <%s>" % (b"41" * 32, b"42" * 32)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] >>",
        b"<< %s >>" % keys,
    ]
    return assemble(
        objects, b"/Encrypt 4 0 R /ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>]"
    )


def bomb(megabytes: int) -> bytes:
    """A page whose drawing commands unpack to `megabytes` of text."""
    commands = b"BT /F1 9 Tf 10 10 Td (" + b"a" * 1000 + b") Tj ET\n"
    packed = zlib.compress(commands * (megabytes * 1024 * 1024 // len(commands)), 9)
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R"
            b" /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
            stream(packed, b"/Filter /FlateDecode"),
        ]
    )


def scan(source: Path, dpi: int = 150) -> bytes:
    """The first page of a file as a picture without a text layer."""
    document = pypdfium2.PdfDocument(source)
    page = document[0]
    width, height = page.get_size()
    bitmap = page.render(scale=dpi / 72, grayscale=True)
    pixels = np.ascontiguousarray(bitmap.to_numpy().reshape(bitmap.height, bitmap.width)).tobytes()
    size = (bitmap.width, bitmap.height)
    page.close()
    document.close()
    image = b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8" % size
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R"
            b" /Resources << /XObject << /I 5 0 R >> >> >>" % (width, height),
            stream(b"q %d 0 0 %d 0 0 cm /I Do Q" % (width, height)),
            stream(zlib.compress(pixels), image + b" /Filter /FlateDecode"),
        ]
    )
