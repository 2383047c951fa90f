"""`bacmr doctor`: what is wrong with a deployment, one line per part."""

from rich.console import Console

from server.app.doctor import Verdict, examine
from server.config import Settings

SIGNS = {
    Verdict.FINE: "[green]✓[/]",
    Verdict.UNUSED: "[dim]–[/]",
    Verdict.DOUBTFUL: "[yellow]![/]",
    Verdict.WRONG: "[red]✗[/]",
}
console = Console(highlight=False)


async def doctor(settings: Settings) -> bool:
    """Print what each part looks like; True when nothing is wrong."""
    wrong = 0
    async for finding in examine(settings):
        console.print(f"{SIGNS[finding.verdict]} {finding.part:<14}", end=" ")
        console.print(finding.detail, markup=False, soft_wrap=True)
        wrong += finding.verdict is Verdict.WRONG
    console.print("nothing is wrong" if not wrong else f"{wrong} to mend")
    return not wrong
