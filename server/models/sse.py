"""Server-sent events as model providers use them: one JSON value per data line."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

LINE_LIMIT: Final = 1_000_000
"""Bytes; a longer line is no token of an answer."""


class LineTooLong(ValueError):
    """The stream sends a line without end."""


async def data_lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[list[bytes]]:
    """Yield the payloads of the data lines completed by each read, in order; comments and other fields are skipped.

    What one read brings is yielded together: handing it on piece by piece costs more than reading it.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        payloads = [line[5:].strip() for line in lines if line.startswith(b"data:")]
        if payloads:
            yield payloads
        if len(rest) > LINE_LIMIT:
            raise LineTooLong
    if rest.startswith(b"data:"):
        yield [rest[5:].strip()]
