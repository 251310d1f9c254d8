"""The command `symphony`: workers, settings, topics, schema; other packages plug theirs in.

Exit codes: 0 done; 1 it failed, one line on standard error says why and what to do; 2 wrong usage
or settings, nothing was started; 3 a check found a difference; 70 a worker ended itself (so that
its supervisor starts it anew), 75 it stopped to be started again at once; 130 interrupted. Data go
to standard output, with --json as one JSON document; everything else to standard error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from app.errors import DatabaseOutage, InvalidSettings, SymphonyError
from app.garbage import collect_rarely

EXIT_FAILED, EXIT_USAGE, EXIT_DIFFERENCE, EXIT_INTERRUPTED = 1, 2, 3, 130
PLUGIN_GROUP = "symphony.commands"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file instead of faust.ini.")
]

root = typer.Typer(
    name="symphony",
    help="Chaos Symphony: an order platform and the laboratory that proves it survives faults.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 a check found a difference,"
    " 70 a worker ended itself, 75 a worker stopped to start again, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
config = typer.Typer(name="config", help="Settings.", no_args_is_help=True)
topics = typer.Typer(name="topics", help="Declared Kafka topics.", no_args_is_help=True)
db = typer.Typer(name="db", help="The PostgreSQL schema.", no_args_is_help=True)
for _group in (config, topics, db):
    root.add_typer(_group)


class Failure(SymphonyError):
    """A command cannot do what was asked; `detail` says why and what to do."""

    code = "failure"
    doc = "A command failed; its message says what to do."


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(document, indent=2, default=str))


def print_table(rows: list[Mapping[str, Any]]) -> None:
    """Print rows of equal keys as columns of text."""
    if not rows:
        return
    head = list(rows[0])
    cells = [head, *([str(row[key]) for key in head] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(padded).rstrip())


@root.command()
def worker(
    role: Annotated[str, typer.Argument(help="What the worker does; an unknown one lists all.")],
    worker_id: Annotated[
        str | None, typer.Option("--id", help="Name of this worker; default ROLE-1.")
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Run one worker of ROLE in the foreground until SIGTERM or Ctrl-C.

    ROLE monolith runs all roles in one process.
    """
    from app.monolith import MONOLITH
    from app.roles import role_named
    from app.settings import load_settings

    try:
        if role != MONOLITH:
            role_named(role)
    except LookupError as error:
        raise InvalidSettings(f"{error.args[0]}; all in one: {MONOLITH}") from None
    settings = load_settings(role=role, worker_id=worker_id, config_file=config_file)
    from app.worker import run

    run(settings)


@config.command("show")
def config_show(
    origin: Annotated[
        bool, typer.Option("--origin", help="Also print where each value comes from.")
    ] = False,
    as_json: Json = False,
    config_file: ConfigFile = None,
) -> None:
    """Print every setting as it applies here and now; passwords are masked."""
    from app.settings import load

    rows = load(config_file=config_file).rows()
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    print_table(
        [
            {"setting": row.name, "value": row.value, "unit": row.unit}
            | ({"origin": row.origin} if origin else {})
            for row in rows
        ]
    )


@topics.command("apply")
def topics_apply(as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Create missing topics and correct configurations; never deletes or repartitions."""
    from app.settings import load_settings
    from app.topic_admin import apply

    created, configured = asyncio.run(apply(load_settings(config_file=config_file)))
    if as_json:
        print_json({"created": created, "configured": configured})
    else:
        typer.echo(f"{len(created)} topics created, {len(configured)} configured")


@topics.command("list")
def topics_list(as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Print what is declared; asks no broker."""
    from app.settings import load_settings
    from app.topic_admin import declared

    settings = load_settings(config_file=config_file)
    rows: list[Mapping[str, Any]] = [
        {
            "topic": name,
            "key": spec.key,
            "partitions": spec.partition_count(settings.topic_partitions),
            "cleanup": spec.cleanup,
            "retention_s": spec.retention_s,
        }
        for name, spec in sorted(declared(settings).items())
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows)


@topics.command("check")
def topics_check(as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Compare the broker's topics with the declaration; exit code 3 when they differ."""
    from app.settings import load_settings
    from app.topic_admin import compare

    states = asyncio.run(compare(load_settings(config_file=config_file)))
    wrong = [state for state in states if state.differences]
    if as_json:
        print_json([state._asdict() for state in states])
    else:
        for state in wrong:
            typer.echo(f"{state.name} {'; '.join(state.differences)}")
        typer.echo(f"{len(states) - len(wrong)} of {len(states)} topics are as declared")
    if wrong:
        raise typer.Exit(EXIT_DIFFERENCE)


@db.command("migrate")
def db_migrate(
    seed: Annotated[
        bool, typer.Option("--seed", help="Also insert the demonstration catalogue.")
    ] = False,
    config_file: ConfigFile = None,
) -> None:
    """Bring the database to the newest schema, with its logins and grants."""
    from sqlalchemy.exc import OperationalError

    from app.db import migrate
    from app.settings import load_settings, masked

    dsn = load_settings(config_file=config_file).postgres_dsn
    try:
        migrate.upgrade(dsn.get_secret_value())
        products = migrate.seed(dsn.get_secret_value()) if seed else 0
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        raise DatabaseOutage(
            f"PostgreSQL at {masked(dsn)} does not answer as it should ({masked(reason)}):"
            " is it running? See postgres_dsn in `symphony config show`"
        ) from error
    typer.echo("the schema is up to date" + (f", {products} products are new" if seed else ""))


def load_plugins(command: str = "") -> None:
    """Add the commands of installed entry points: a Typer, or a function of the root.

    An entry point has the name of its command, so that no other needs to be imported; all are when
    `command` is not among them. One that cannot be imported is named on standard error and leaves
    the others usable.
    """
    found = entry_points(group=PLUGIN_GROUP)
    chosen = found.select(name=command) or found
    by_value = {entry.value: entry for entry in chosen}
    for entry in sorted(by_value.values(), key=lambda entry: entry.name):
        try:
            plugin = entry.load()
        except ImportError as error:
            sys.stderr.write(f"symphony: the commands of {entry.value} are missing: {error}\n")
            continue
        if isinstance(plugin, typer.Typer):
            root.add_typer(plugin, name=entry.name)
        else:
            plugin(root)


def main() -> NoReturn:
    """Run the command line; see the module for the exit codes.

    A worker loads no plug-ins: nothing but its own packages belongs into its process.
    """
    collect_rarely()
    logging.getLogger().addHandler(logging.NullHandler())  # errors reach people as exceptions
    try:
        if sys.argv[1:2] != ["worker"]:
            load_plugins(next(iter(sys.argv[1:]), ""))
        root()
    except InvalidSettings as error:
        _fail(error.detail, EXIT_USAGE)
    except SymphonyError as error:
        _fail(error.detail or error.doc, EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"symphony: {message}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
