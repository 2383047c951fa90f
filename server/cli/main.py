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
from server.app.failure import StartupError
from server.cli import ask as asking
from server.cli import ingest as ingesting
from server.cli import sync as syncing
from server.cli.admin import admin
from server.cli.keys import keys
from server.cli.remote import TARGET_VARIABLES, Login
from server.config import Settings, SettingsError, given_names, load, misspelt

FAILED = 2
FOUND_SOMETHING = 1

cli = typer.Typer(
    help="BacMR: cited answers and quizzes for the baccalaureate, billed exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.add_typer(admin, name="admin")
cli.add_typer(keys, name="keys")
errors = Console(stderr=True, highlight=False)

Target = Annotated[str, typer.Option(envvar=TARGET_VARIABLES, help="Address of the server.")]
Email = Annotated[str, typer.Option(envvar="BACMR_EMAIL", help="E-mail address to sign in with.")]
Password = Annotated[
    str,
    typer.Option(
        envvar="BACMR_PASSWORD", prompt=True, hide_input=True, help="Password; better given in the environment."
    ),
]
DEFAULT_TARGET = "127.0.0.1:50051"
SAMPLES = Path(__file__).parents[2] / "samples"


# Commands that work on the stores import their module when they run: it loads the whole server, for which the others
# need not wait.


@cli.command()
def serve(
    processes: Annotated[int, typer.Option(min=0, help="Server processes; 0: as BACMR_PROCESSES says.")] = 0,
) -> None:
    """Start everything that no setting replaces and serve until Ctrl-C or SIGTERM."""
    from server.cli import serve as serving

    _run(serving.serve(_settings(processes=processes) if processes else _settings()))


@cli.command()
def demo(samples: Annotated[Path, typer.Option(help="Folder with sample documents.")] = SAMPLES) -> None:
    """Run the main job on embedded stores: ingest, ask in French and Arabic, make a quiz, show the ledger."""
    from server.cli import demo as demonstrating

    _run(demonstrating.demo(samples))


@cli.command()
def worker() -> None:
    """Run queued and scheduled jobs only, beside a server on the same stores."""
    from server.cli import serve as serving

    _run(serving.work(_settings()))


@cli.command()
def migrate(
    revision: Annotated[str, typer.Argument(help="Revision to go to.")] = "head",
    backup: Annotated[Path | None, typer.Option(help="Folder for a copy of the database, made first.")] = None,
) -> None:
    """Bring the database schema to a revision."""
    from server.cli import operate as operating

    operating.migrate(_settings(), revision, backup)


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
def sync(
    source: Annotated[str, typer.Argument(help="Name or id of a web source.")],
    email: Email,
    password: Password,
    target: Target = DEFAULT_TARGET,
) -> None:
    """Bring a web source up to date, as an administrator; shows each page's verdict."""
    done = _run(syncing.sync(Login(target, email, password), source))
    raise typer.Exit(0 if done else FOUND_SOMETHING)


@cli.command()
def reindex(
    everything: Annotated[bool, typer.Option("--all", help="The whole library.")] = False,
    namespace: Annotated[str, typer.Option(help="Only this part of the library.")] = "",
    model: Annotated[str, typer.Option(help="As in local-1536 or text-embedding-3-large@3072.")] = "",
    activate: Annotated[bool, typer.Option(help="Search the new index once it is verified.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Search the index before again.")] = False,
    drop: Annotated[str, typer.Option(help="Drop an index that is not searched.")] = "",
    terms: Annotated[bool, typer.Option("--terms", help="Only make outdated search terms again, no index.")] = False,
    export_only: Annotated[bool, typer.Option("--export-only", help="Write the texts to a file, no index.")] = False,
    output: Annotated[Path | None, typer.Option(help="The file of --export-only, one chunk per line.")] = None,
    email: Annotated[str, typer.Option(envvar="BACMR_EMAIL", help="E-mail address to sign in with.")] = "",
    password: Annotated[str, typer.Option(envvar="BACMR_PASSWORD", help="Better given in the environment.")] = "",
    target: Target = DEFAULT_TARGET,
) -> None:
    """Build a vector index beside the searched one, as an administrator; then switch, go back or clean up."""
    from server.cli import reindex as reindexing

    whole_or_part = everything != bool(namespace) and not export_only
    chosen = [whole_or_part, rollback, bool(drop), terms, export_only]
    if chosen.count(True) != 1 or export_only != (output is not None):
        raise typer.BadParameter(
            "give one of --all, --namespace, --rollback, --drop, --terms, --export-only with --output"
        )
    if output is not None:
        _run(reindexing.export_texts(_settings(), namespace, output))
        return
    if terms:
        _run(reindexing.renew_terms(_settings()))
        return
    login = Login(target, email or typer.prompt("Email"), password or typer.prompt("Password", hide_input=True))
    if rollback:
        _run(reindexing.rollback(login))
    elif drop:
        _run(reindexing.drop(login, drop))
    elif not _run(reindexing.reindex(login, reindexing.Wanted(namespace, model, activate))):
        raise typer.Exit(FOUND_SOMETHING)


@cli.command()
def reconcile(
    folder: Annotated[
        Path | None, typer.Option(help="Also write the report here, as wallet_discrepancies_TIME.json.")
    ] = None,
) -> None:
    """Check all money in the database; prints a JSON report and ends with 1 when anything is wrong."""
    from server.cli import operate as operating

    raise typer.Exit(0 if _run(operating.reconcile(_settings(), folder)) else FOUND_SOMETHING)


@cli.command()
def doctor() -> None:
    """Look at every part that the settings name and say in words what is wrong; changes nothing."""
    from server.cli import doctor as examining

    raise typer.Exit(0 if _run(examining.doctor(_settings())) else FOUND_SOMETHING)


@cli.command()
def export(
    destination: Annotated[
        str, typer.Argument(help="New folder, or address as in s3://bucket/prefix; else the blob store's export area.")
    ] = "",
    compress: Annotated[bool, typer.Option(help="Write .ndjson.gz.")] = False,
    with_files: Annotated[bool, typer.Option(help="Copy the uploaded files as well.")] = False,
) -> None:
    """Export every table with a manifest; prints the result as JSON and ends with 1 when uploaded files are missing."""
    from server.cli import recovery as recovering

    done = _run(recovering.export(_settings(), destination, compress=compress, copy_files=with_files))
    raise typer.Exit(0 if done else FOUND_SOMETHING)


@cli.command(name="import")
def import_(
    location: Annotated[str, typer.Argument(help="Folder or address of an export.")],
    only_files: Annotated[
        bool, typer.Option(help="Only put missing uploaded files back, into a system in use.")
    ] = False,
) -> None:
    """Import into a system that holds nothing but its bootstrap administrator; ends with 1 when a check fails."""
    from server.cli import recovery as recovering

    raise typer.Exit(0 if _run(recovering.import_(_settings(), location, only_files=only_files)) else FOUND_SOMETHING)


@cli.command()
def drill(
    location: Annotated[str, typer.Argument(help="Export to try; left out: a fresh one.")] = "",
    newest: Annotated[bool, typer.Option(help="Try the newest export of the export area.")] = False,
) -> None:
    """Restore into scratch stores and measure RPO and RTO; ends with 1 when a check fails."""
    from server.cli import recovery as recovering

    raise typer.Exit(0 if _run(recovering.drill(_settings(), location, newest=newest)) else FOUND_SOMETHING)


def _settings(**overrides: Any) -> Settings:
    for name, near in misspelt(given_names()).items():
        errors.print(f"bacmr: {name} is no setting" + (f"; is {near} meant?" if near else ""), soft_wrap=True)
    return load(**overrides)


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
