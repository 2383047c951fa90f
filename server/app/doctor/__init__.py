"""What is wrong with a deployment, in words: every part that the settings name is asked, nothing is changed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from server.app.doctor import machine, outside, served, stores
from server.app.doctor.finding import Finding, Verdict
from server.app.failure import StartupError
from server.config import Settings
from server.refusal import Refusal

__all__ = ["Finding", "Verdict", "examine"]

CHECK_SECONDS = 60.0
Check = Callable[[Settings], Awaitable[list[Finding]]]


def _in_thread(check: Callable[[Settings], list[Finding]]) -> Check:
    return lambda settings: asyncio.to_thread(check, settings)


CHECKS: tuple[tuple[str, Check], ...] = (
    ("settings", _in_thread(machine.settings)),
    ("data folder", _in_thread(machine.data)),
    ("open files", _in_thread(machine.open_files)),
    ("TLS", _in_thread(machine.tls)),
    ("scanned pages", _in_thread(machine.scans)),
    ("PostgreSQL", stores.postgres),
    ("Milvus", stores.milvus),
    ("files", stores.blobs),
    ("Redis", stores.redis),
    ("models", outside.models),
    ("embeddings", outside.embeddings),
    ("server", served.server),
)


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Yield what each check finds; a check that breaks or takes a minute is a finding too."""
    for name, check in CHECKS:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                findings = await check(settings)
        except TimeoutError:
            findings = [Finding(name, Verdict.WRONG, f"gave no answer within {CHECK_SECONDS:.0f} s")]
        except (StartupError, Refusal) as error:
            findings = [Finding(name, Verdict.WRONG, str(error))]
        except Exception as error:  # noqa: BLE001 - whatever is broken, the other parts are still worth a look
            findings = [Finding(name, Verdict.WRONG, f"could not be examined ({type(error).__name__})")]
        for finding in findings:
            yield finding
