"""The demos that tell one story each and check it: `symphony demo happy|dlq|gameday`."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from chaos.audit import AuditFailed, run_audit
from chaos.demo import dead_letters, game_day, happy
from chaos.demo.script import PromiseBroken, Script, Stage, interrupt, stage

AUDIT_DEADLINE_S = 150.0
DOUBT = 2

Leave = Annotated[
    bool, typer.Option("--exit", help="Stop a lab that it started instead of leaving it up.")
]
LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]


class Story(NamedTuple):
    """A demo: what it is about, how it plays, and the settings of a lab that it starts."""

    title: str
    play: Callable[[Stage, Script], None]
    environment: Mapping[str, str]


HAPPY = Story("Demo 1: one order, from its acceptance to its end", happy.play, {})
DEAD_LETTERS = Story(
    "Demo 2: a payment fails, is dead-lettered, and is replayed",
    dead_letters.play,
    dead_letters.ENVIRONMENT,
)

GAMEDAY = Story("Demo 3: a GameDay, its objective red and green again", game_day.play, {})


def register(group: typer.Typer) -> None:
    """Add one command per story."""
    group.command("happy")(tell_happy)
    group.command("dlq")(tell_dead_letters)
    group.command("gameday")(tell_gameday)


def tell_happy(leave: Leave = False, lab_dir: LabDir = None) -> None:
    """Demo 1: follow one order through its saga, its page and its topics.

    On the running lab, or on one of its own. Exit codes: 0 every promise was kept, 1 one was not, 2
    the audit could not judge.
    """
    tell(HAPPY, leave, lab_dir)


def tell_dead_letters(leave: Leave = False, lab_dir: LabDir = None) -> None:
    """Demo 2: payment ERROR, retries, dead letter, PARKED; SUCCESS, replay all, COMPLETED.

    On the running lab, or on one of its own. Exit codes: 0 every promise was kept, 1 one was not, 2
    the audit could not judge.
    """
    tell(DEAD_LETTERS, leave, lab_dir)


def tell_gameday(
    leave: Leave = False,
    observe: Annotated[
        bool, typer.Option("--observe", help="Start the lab with Prometheus, for the alert exam.")
    ] = False,
    lab_dir: LabDir = None,
) -> None:
    """Demo 3: a GameDay slows the payment provider; the objective turns red, then green again.

    On the running lab, or on one of its own. Exit codes: 0 every promise was kept, 1 one was not, 2
    the audit could not judge.
    """
    tell(GAMEDAY, leave, lab_dir, observe=observe)


def tell(story: Story, leave: bool, lab_dir: Path | None, *, observe: bool = False) -> None:
    """Play `story` to its end and let the auditor read the books; exits with its code."""
    signal.signal(signal.SIGTERM, interrupt)
    typer.echo(story.title)
    script = Script(typer.echo)
    with stage(
        lab_dir, dict(story.environment), leave=leave, say=typer.echo, observe=observe
    ) as found:
        code = _play(story, found, script)
    raise typer.Exit(code)


def _play(story: Story, found: Stage, script: Script) -> int:
    try:
        story.play(found, script)
        script.scene("An independent auditor compares the books of everybody involved")
        audited = run_audit(
            found.target, found.target.ledgers(), deadline_s=AUDIT_DEADLINE_S, progress=script.tell
        )
        if audited.exit_code == 1:
            typer.echo(audited.text)
        for state, count in Counter(
            one["state"] for one in audited.document["invariants"]
        ).most_common():
            script.tell(f"{count} of its invariants: {state}")
        script.promise("nothing is violated", audited.exit_code != 1, audited.sentence)
    except PromiseBroken as error:
        typer.echo(f"\nBROKEN after {script.kept} promises were kept: {error.detail}")
        return 1
    except AuditFailed as error:
        typer.echo(f"\nUNKNOWN: {error}")
        return DOUBT
    typer.echo(f"\nAll {script.kept} promises were kept.")
    return 0
