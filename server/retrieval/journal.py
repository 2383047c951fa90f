"""The events of one running answer: written in small batches, shown to followers once they are durable.

The first text is written at once, later text at growing intervals; text that arrives meanwhile becomes one event. So a
fast model costs few writes, a slow one is seen word by word, and a long answer does not cost a write for every word.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress

from server.refusal import StoreUnavailable
from server.retrieval.events import Completed, Delta, Event, Heartbeat, Payload

INTERVAL_SECONDS = 0.06
LONGEST_INTERVAL_SECONDS = 0.25
INTERVAL_GROWTH = 1.2
COMPANY_SECONDS = 0.01
"""Events without text wait this long for the first text, to be written together."""
HEARTBEAT_SECONDS = 4.0
"""A running answer writes at least this often; each write renews its lease."""
RETRY_SECONDS = (0.1, 0.3, 1.0, 2.0)
"""Waits between attempts while PostgreSQL does not answer; then the answer is given up to the lease."""


class Lost(Exception):
    """The answer belongs to another process now, or can no longer be written."""


Write = Callable[[Sequence[Event]], Awaitable[None]]
"""Makes events durable; raises Lost when the answer is no longer ours."""


class Journal:
    """One answer's events in memory, from the first; followers see only what is durable."""

    def __init__(self, opened: Sequence[Event], write: Write, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        """Begin with the events that were stored when the answer was opened."""
        self._events = list(opened)
        self._pending: list[Payload | list[str]] = []
        self._text: list[str] = []
        self._write = write
        self._heartbeat_seconds = heartbeat_seconds
        self._pending_any = asyncio.Event()
        self._pending_text = asyncio.Event()
        self._stopped = asyncio.Event()
        self._changed = asyncio.Event()
        self._given_up = False

    @property
    def text(self) -> str:
        """Return the whole text so far, durable or not."""
        return "".join(self._text)

    @property
    def has_text(self) -> bool:
        """Say whether there is any text yet."""
        return bool(self._text)

    @property
    def last_sequence(self) -> int:
        """Return the last durable sequence."""
        return self._events[-1].sequence

    def append(self, payload: Payload) -> None:
        """Take an event that is not text for the next batch."""
        self._pending.append(payload)
        self._pending_any.set()

    def add_text(self, text: str) -> None:
        """Take text for the next batch; it joins text that still waits."""
        self._text.append(text)
        if self._pending and isinstance(last := self._pending[-1], list):
            last.append(text)
            return
        self._pending.append([text])
        self._pending_text.set()
        self._pending_any.set()

    async def keep(self) -> None:
        """Write batches until stopped, all text included; raises Lost when the answer is no longer ours to write."""
        interval = INTERVAL_SECONDS
        while not self._stopped.is_set():
            if not await _set_within(self._heartbeat_seconds, self._pending_any):
                self.append(Heartbeat())
            await _set_within(COMPANY_SECONDS, self._pending_text)
            if self._stopped.is_set():
                break
            text = self._pending_text.is_set()
            await self._flush()
            if text:
                await _set_within(interval, self._stopped)
                interval = min(LONGEST_INTERVAL_SECONDS, interval * INTERVAL_GROWTH)
        if any(isinstance(payload, list) for payload in self._pending):
            await self._flush()

    def stop(self) -> None:
        """Let `keep` write pending text and return; what else is pending goes with the end (`last`)."""
        self._stopped.set()
        self._pending_any.set()
        self._pending_text.set()

    def last(self, completed: Completed) -> list[Event]:
        """Return the events to store together with the end of the answer."""
        return self._batch([*self._pending, completed])

    def end(self, last: Sequence[Event]) -> None:
        """Show the last events, now that they are stored."""
        self._show(last)

    def give_up(self) -> None:
        """Tell followers to read on from the store."""
        self._given_up = True
        self._notify()

    async def follow(self, after_sequence: int) -> AsyncGenerator[Event]:
        """Yield durable events after a sequence; ends after `Completed`, or early when the journal was given up."""
        place = after_sequence
        while True:
            changed = self._changed
            for event in self._events[place:]:
                place = event.sequence
                yield event
                if isinstance(event.payload, Completed):
                    return
            if self._given_up:
                return
            if changed is self._changed:
                await changed.wait()

    async def _flush(self) -> None:
        self._pending_any.clear()
        self._pending_text.clear()
        if not self._pending:
            return
        batch = self._batch(self._pending)
        self._pending = []
        try:
            await self._write_through(batch)
        except BaseException:
            self.give_up()
            raise
        self._show(batch)

    def _batch(self, payloads: Sequence[Payload | list[str]]) -> list[Event]:
        return [
            Event(sequence, Delta("".join(payload)) if isinstance(payload, list) else payload)
            for sequence, payload in enumerate(payloads, start=self.last_sequence + 1)
        ]

    async def _write_through(self, batch: Sequence[Event]) -> None:
        for pause in RETRY_SECONDS:
            with suppress(StoreUnavailable):
                return await self._write(batch)
            await asyncio.sleep(pause)
        try:
            await self._write(batch)
        except StoreUnavailable as error:
            raise Lost from error
        return None

    def _show(self, batch: Sequence[Event]) -> None:
        self._events.extend(batch)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _set_within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for an event; False when it was not set in time."""
    if event.is_set():
        return True
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False
