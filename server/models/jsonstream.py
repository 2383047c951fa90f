"""Objects out of a JSON text that is still being written."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_MARKS: Final = re.compile(r'[{}"]')
_STRING_END: Final = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)


class ObjectStream:
    """Finds the objects that hold `key` as soon as their last brace arrives.

    They may stand in an array inside another object, one per line, or in a code block: models write all of these.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._text = ""
        self._position = 0
        self._starts: list[int] = []

    def feed(self, piece: str) -> Iterator[dict[str, Any]]:
        """Take the next piece of text and yield the objects it completes."""
        self._text += piece
        while mark := _MARKS.search(self._text, self._position):
            match mark.group():
                case '"' if not self._starts:
                    self._position = mark.end()
                case '"':
                    string = _STRING_END.match(self._text, mark.end())
                    if string is None:
                        return  # its end has not arrived yet
                    self._position = string.end()
                case "{":
                    self._starts.append(mark.start())
                    self._position = mark.end()
                case _:
                    self._position = mark.end()
                    yield from self._closed(mark.end())

    def _closed(self, end: int) -> Iterator[dict[str, Any]]:
        if not self._starts:
            return
        start = self._starts.pop()
        try:
            value = json.loads(self._text[start:end])
        except ValueError:
            return
        if self._key in value:
            yield value
