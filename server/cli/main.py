"""All commands of `bacmr`, and how each of them fails: one clear line, exit code 2."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
import uvloop
from rich.console import Console

from bacmr.refusals import refusal
from server.app import StartupError
from server.cli import ask as asking
from server.cli import demo as demonstrating
from server.cli import ingest as ingesting
from server.cli import operate
from server.cli import serve as serving
from server.cli.remote import Login
from server.config import Settings, SettingsError, load

FAILED = 2
FOUND_SOMETHING = 1

cli = typer.Typer(
    help="BacMR: cited answers and quizzes for the baccalaureate, billed exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
errors = Console(stderr=True, highlight=False)

Target = Annotated[str, typer.Option(envvar="BACMR_TARGET", help="Address of the server.")]
Email = Annotated[str, typer.Option(envvar="BACMR_EMAIL", help="E-mail address to sign in with.")]
Password = Annotated[
    str,
    typer.Option(
        envvar="BACMR_PASSWORD", prompt=True, hide_input=True, help="Password; better given in the environment."
    ),
]
DEFAULT_TARGET = "127.0.0.1:50051"


@cli.command()
def serve() -> None:
    """Start everything that no setting replaces and serve until Ctrl-C or SIGTERM."""
    _run(serving.serve(_settings()))


@cli.command()
def demo(samples: Annotated[Path, typer.Option(help="Folder with sample documents.")] = demonstrating.SAMPLES) -> None:
    """Run the main job on embedded stores: ingest, ask in French and Arabic, make a quiz, show the ledger."""
    _run(demonstrating.demo(samples))


@cli.command()
def worker() -> None:
    """Run queued and scheduled jobs only, beside a server on the same stores."""
    _run(serving.work(_settings()))


@cli.command()
def migrate(revision: Annotated[str, typer.Argument(help="Revision to go to.")] = "head") -> None:
    """Bring the database schema to a revision."""
    operate.migrate(_settings(), revision)


@cli.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question, in French, Arabic or Hassaniya.")],
    email: Email,
    password: Password,
    target: Target = DEFAULT_TARGET,
    namespace: Annotated[str, typer.Option(help="Only this part of the library.")] = "",
) -> None:
    """Ask a question and print the answer as it comes, with its citations and its price."""
    _run(asking.ask(Login(target, email, password), question, namespace))


@cli.command()
def ingest(
    files: Annotated[list[Path], typer.Argument(help="PDF, DOCX, HTML, Markdown or text files.", exists=True)],
    email: Email,
    password: Password,
    namespace: Annotated[str, typer.Option(help="Part of the library, as in grade-12-math.")],
    subject: Annotated[str, typer.Option(help="As in physics.")] = "",
    grade: Annotated[str, typer.Option(help="As in 12.")] = "",
    target: Target = DEFAULT_TARGET,
) -> None:
    """Upload files and make them searchable; shows progress and each file's outcome."""
    ready = _run(ingesting.ingest(Login(target, email, password), files, namespace, subject, grade))
    raise typer.Exit(0 if ready else FOUND_SOMETHING)


@cli.command()
def reconcile() -> None:
    """Check all money in the database; prints a JSON report and ends with 1 when anything is wrong."""
    raise typer.Exit(0 if _run(operate.reconcile(_settings())) else FOUND_SOMETHING)


def _settings() -> Settings:
    return load()


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return uvloop.run(work)


def main() -> None:
    """Run the command line; people read the error, scripts the exit code."""
    try:
        cli()
    except (SettingsError, StartupError) as error:
        _fail(str(error))
    except grpc.aio.AioRpcError as error:
        said = refusal(error)
        _fail(f"{said} [request {said.request_id}]" if said.request_id else str(said))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


def _fail(line: str) -> None:
    errors.print(f"bacmr: {line}", soft_wrap=True, markup=False)
    sys.exit(FAILED)
