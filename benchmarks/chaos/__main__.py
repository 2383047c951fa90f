"""`python -m benchmarks.chaos [VICTIM …]`: kill each part under load and print what became of calls and money.

Exit 1 when the books are wrong anywhere. Takes about three minutes; needs redis-server.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # read when gRPC is imported

import uvloop

from benchmarks.chaos.load import Call, Load
from benchmarks.chaos.system import System

VICTIMS = ("PostgreSQL", "Milvus Lite", "redis", "model", "worker", "server process")
CALM_SECONDS = 6.0
PHASE_SECONDS = 15.0
WORKER_PHASE_SECONDS = 45.0
"""Others take over the jobs of a worker that has been silent for 30 s."""
RESUME = "/bacmr.v1.RetrievalService/ResumeAsk"
KINDS = ("Ask", "Search", "GetBalance", "Reserve, Finalize", "Ingest")


@dataclass(frozen=True, slots=True)
class Phase:
    """The time from one kill to the next; the calm before all of them has no victim."""

    victim: str
    began_at: float
    ended_at: float


async def main() -> int:
    """Run all phases, print the table and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="bacmr-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # noqa: ASYNC240 - once, before anything runs
        system = System(folder)
        load = Load(system)
        try:
            await system.start()
            phases = await _phases(system, load)
            await load.stop()
            wrong = await load.discrepancies()
            resumed = await asyncio.to_thread(_resumed, system)
        finally:
            await load.close()
            await asyncio.to_thread(system.stop)
    _report(phases, load.calls)
    print(f"\nanswers resumed after their link broke: {resumed}")
    print(f"accounts whose owners were told every charge: {len(load.accounts)}; money discrepancies: {len(wrong)}")
    for line in wrong:
        print(f"  {line}")
    return 1 if wrong else 0


async def _phases(system: System, load: Load) -> list[Phase]:
    await load.start()
    began_at, phases = time.monotonic(), []
    await asyncio.sleep(CALM_SECONDS)
    victim = "nobody"
    for following in (*(sys.argv[1:] or VICTIMS), ""):
        phases.append(Phase(victim, began_at, time.monotonic()))
        if following:
            victim, began_at = following, time.monotonic()
            print(f"killing {victim} …", file=sys.stderr)
            killing = asyncio.create_task(system.kill(victim))
            await asyncio.sleep(WORKER_PHASE_SECONDS if victim == "worker" else PHASE_SECONDS)
            await killing
    return phases


def _resumed(system: System) -> int:
    calls = system.metrics()["grpc_calls_total"]["series"]
    found = [one for one in calls if one["labels"] == {"method": RESUME, "code": "OK"}]
    return round(sum(float(str(one["value"])) for one in found))


def _report(phases: Sequence[Phase], calls: Sequence[Call]) -> None:
    print(f"\n{'killed':16}{'calls':>8}{'failed':>8}{'all kinds well after':>28}   failed by kind, status and reason")
    for phase in phases:
        made = [call for call in calls if phase.began_at <= call.ended_at < phase.ended_at]
        failed = Counter(f"{call.kind}: {call.error}" for call in made if call.error)
        after = "" if phase.victim == "nobody" else _recovery(phase, calls)
        lines = [f"{count} x {what}" for what, count in failed.most_common()] or ["-"]
        print(f"{phase.victim:16}{len(made):>8}{failed.total():>8}{after:>28}   {lines[0]}")
        for line in lines[1:]:
            print(f"{'':63}{line}")


def _recovery(phase: Phase, calls: Sequence[Call]) -> str:
    """Return when, after the kill and the last failure before the next kill, each kind of call had succeeded again."""
    took: dict[str, float] = {}
    for kind in KINDS:
        mine = [call for call in calls if call.kind == kind and call.ended_at >= phase.began_at]
        failures = [call.started_at for call in mine if call.error and call.ended_at < phase.ended_at]
        last_at = max(phase.began_at, *failures, phase.began_at)
        well = [call.ended_at for call in mine if not call.error and call.started_at >= last_at]
        if not well:
            return f"{kind} never"
        took[kind] = min(well) - phase.began_at
    slowest = max(took, key=lambda kind: took[kind])
    return f"{took[slowest]:.1f} s ({slowest})"


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
