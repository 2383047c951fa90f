"""`bacmr ask`: a question and its answer on the terminal."""

from rich.console import Console

from bacmr.client import BacmrClient
from bacmr.v1 import retrieval_pb2, wallet_pb2
from server.cli.remote import Login, signed_in

STAGES = {
    "searching": "searching the library",
    "reranking": "ordering passages",
    "answering": "answering",
    "checking": "checking citations",
}


async def ask(login: Login, question: str, namespace: str) -> None:
    """Sign in, ask, print."""
    async with signed_in(login) as client:
        await print_answer(client, Console(highlight=False), question, namespace)


async def print_answer(
    client: BacmrClient, console: Console, question: str, namespace: str = ""
) -> retrieval_pb2.AskCompleted:
    """Print an answer as it streams, then its citations and its receipt; why there is none is raised after that."""
    request = retrieval_pb2.AskRequest(filters=retrieval_pb2.CorpusFilter(namespace=namespace))
    completed, column = retrieval_pb2.AskCompleted(), 0
    async for event in client.ask(question, request=request):
        match event.WhichOneof("event"):
            case "started":
                console.print(f"[dim]costs at most {event.started.max_charge_tokens} tokens[/dim]")
            case "progress":
                stage = STAGES.get(event.progress.stage, event.progress.stage)
                console.print(("\n" if column else "") + f"[dim]… {stage}[/dim]")
                column = 0
            case "degraded":
                console.print(f"[yellow]{event.degraded.step}: {event.degraded.reason}[/yellow]")
            case "delta":
                console.print(event.delta.text, end="", markup=False, soft_wrap=True)
                column += len(event.delta.text)
            case "completed":
                completed = event.completed
                _print_end(console, completed)
    return completed


def receipt_line(receipt: wallet_pb2.Receipt) -> str:
    """Return a receipt as a sentence."""
    return (
        f"reserved {receipt.reserved_tokens}, charged {receipt.charged_tokens}, refunded {receipt.refunded_tokens}"
        f" tokens; {receipt.balance_tokens} left"
    )


def _print_end(console: Console, completed: retrieval_pb2.AskCompleted) -> None:
    for citation in completed.citations:
        line = f"  [{citation.number}] {citation.document_title}, p. {citation.page}: «{_short(citation.quote)}»"
        console.print(line, markup=False, style="cyan", soft_wrap=True)
    console.print(f"[dim]{receipt_line(completed.receipt)}[/dim]")


def _short(quote: str, characters: int = 160) -> str:
    flat = " ".join(quote.split())
    return flat if len(flat) <= characters else flat[: characters - 1] + "…"
