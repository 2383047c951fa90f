"""What was worked out before, by its argument: a dictionary, since a look-up must cost less than `lru_cache` takes."""

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """`memo[argument]` is `work_out(argument)`, kept until `size` results are; then it begins anew, empty.

    `worth_keeping` may spare it arguments that will not come again. Safe from several threads: the same result may be
    worked out twice.
    """

    def __init__(
        self, work_out: Callable[[K], V], size: int, *, worth_keeping: Callable[[K], bool] = lambda argument: True
    ) -> None:
        super().__init__()
        self._work_out = work_out
        self._size = size
        self._worth_keeping = worth_keeping

    def __missing__(self, argument: K) -> V:
        """Work out a result that is not kept."""
        result = self._work_out(argument)
        if self._worth_keeping(argument):
            if len(self) >= self._size:
                self.clear()
            self[argument] = result
        return result
