"""`symphony demo`: the lab up, orders of every outcome, kills in the middle, an audit."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, NamedTuple

import aiohttp
import typer

from app.cli import Failure
from app.settings import load_settings
from chaos.audit import Audited, AuditFailed, run_audit
from chaos.auditor.verdict import EXIT_CODES
from chaos.demo import stories, story
from chaos.demo.kills import Assassin, Kill
from chaos.demo.script import interrupt, stay
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.workload.command import ledger_path
from chaos.workload.generator import Load, read_catalogue
from chaos.workload.ledger import LedgerFile
from chaos.workload.mix import DEFAULT_MIX, plan
from chaos.workload.summary import Summary, summarize
from chaos.workload.target import Target, target_of

PROGRESS_EVERY = 5
REST_DEADLINE_S = 150.0


class Demo(NamedTuple):
    """All that a demo found out."""

    summary: Summary
    kills: list[Kill]
    audited: Audited

    @property
    def doubts(self) -> list[str]:
        """Why this run proves less than it should."""
        return story.doubts(self.audited.outcomes, self.kills, self.audited.idle)

    @property
    def exit_code(self) -> int:
        """1 violated, 2 unknown or void, 0 holds."""
        code = self.audited.exit_code
        return EXIT_CODES["unknown"] if code == 0 and self.doubts else code


def register(root: typer.Typer) -> None:
    """Add `symphony demo`, and below it the demos that tell one story each."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(demo)
    stories.register(group)
    root.add_typer(group, name="demo")


def demo(
    context: typer.Context,
    leave: Annotated[
        bool, typer.Option("--exit", help="Stop everything afterwards instead of staying up.")
    ] = False,
    orders: Annotated[int, typer.Option(min=20, max=100_000, help="How many orders.")] = 600,
    rate: Annotated[float, typer.Option(min=1, max=1_000, help="Orders per second.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Same seed, same orders.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    lab_dir: Annotated[
        Path | None,
        typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir."),
    ] = None,
) -> None:
    """Show the platform at work: real orders, kill -9 in the middle, and the proof.

    `symphony demo happy`, `symphony demo dlq` and `symphony demo gameday` tell one story each.

    Exit codes: 0 everything holds, 1 something is violated, 2 the run proves nothing (an outcome is
    missing, a kill had no effect, a book could not be read).
    """
    if context.invoked_subcommand is not None:
        return
    signal.signal(signal.SIGTERM, interrupt)

    def say(line: str = "") -> None:
        typer.echo(line, err=as_json)

    say(story.opening(orders, seed))
    say("\n1. Start a real Kafka broker, a real PostgreSQL and every role as its own process")
    started = time.monotonic()
    settings = load_settings(lab_dir=lab_dir)
    lab = Lab.up(make_plan(settings), detach=False, report=lambda line: say(f"  {line}"))
    try:
        target = target_of(lab)
        say(f"  all ready after {time.monotonic() - started:.1f} s: {target.url}")
        done = run(lab, target, orders=orders, rate=rate, seed=seed, say=say)
        if as_json:
            typer.echo(json.dumps(_document(done), indent=1))
        if not leave:
            stay(lab, target, say)
    finally:
        say("stopping everything")
        lab.down()
    raise typer.Exit(done.exit_code)


def run(
    lab: Lab,
    target: Target,
    *,
    orders: int,
    rate: float,
    seed: int,
    say: Callable[[str], None],
) -> Demo:
    """Send, kill, wait, audit, and tell it by `say`; the lab is left running."""
    ledger = ledger_path(target, token_hex(5))
    say(f"\n2. Send {orders} orders, {rate:g} per second, and kill three workers in the middle")
    summary, kills = asyncio.run(_send_and_kill(lab, target, ledger, orders, rate, seed, say))
    latency = ", ".join(f"{name} {value:g} ms" for name, value in summary.latency_ms.items())
    say(f"  {summary.ok} accepted, {summary.fail} refused, {summary.unknown} unknown")
    say(f"  time to accept, from the intended moment: {latency}")
    say(story.kills_table(kills))
    say("\n3. Wait until nothing moves any more, then let an independent auditor read all books:")
    say("   the client's ledger, PostgreSQL, the topics, the gateway's ledger, the sink's")
    try:
        audited = run_audit(
            target,
            target.ledgers(),
            deadline_s=REST_DEADLINE_S,
            progress=lambda line: say(f"  {line}"),
        )
    except AuditFailed as error:
        raise Failure(str(error)) from None
    say("  at rest" if not audited.unrest else f"  NOT at rest: {audited.unrest}")
    say("\n4. What became of the orders")
    say(story.outcomes_table(audited.outcomes))
    say("\n5. What the auditor found")
    say(audited.text)
    done = Demo(summary, kills, audited)
    for doubt in done.doubts:
        say(f"  doubt: {doubt}")
    say(f"\n{_verdict_line(done)}")
    return done


async def _send_and_kill(
    lab: Lab,
    target: Target,
    ledger: Path,
    orders: int,
    rate: float,
    seed: int,
    say: Callable[[str], None],
) -> tuple[Summary, list[Kill]]:
    try:
        catalogue = await read_catalogue(target.url)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Failure(f"the API at {target.url} does not answer ({error})") from None
    planned = plan(orders, rate, seed, DEFAULT_MIX, catalogue)
    started = time.monotonic()

    def tell(line: str) -> None:
        say(f"  {time.monotonic() - started:5.1f} s  {line}")

    def progress(load: Load) -> None:
        if int(time.monotonic() - started) % PROGRESS_EVERY == 0:
            tell(f"{load.sent} of {orders} sent, {load.answered} accepted")

    assassin = Assassin(lab, tell)
    with LedgerFile(ledger) as file:
        load = Load(target.url, file, run=token_hex(5))
        assassin.schedule(orders / rate)
        try:
            await load.run(planned, progress)
            kills = await asyncio.to_thread(assassin.results)
        finally:
            assassin.call_off()
    return summarize(load.lines, str(ledger)), kills


def _verdict_line(done: Demo) -> str:
    if done.exit_code == EXIT_CODES["unknown"] and done.doubts:
        return f"Verdict: UNKNOWN, this run proves too little: {'; '.join(done.doubts)}"
    return f"Verdict: {done.audited.sentence}"


def _document(done: Demo) -> dict[str, Any]:
    return {
        "exit_code": done.exit_code,
        "verdict": _verdict_line(done),
        "doubts": done.doubts,
        "load": {
            "requests": done.summary.requests,
            "ok": done.summary.ok,
            "fail": done.summary.fail,
            "unknown": done.summary.unknown,
            "latency_ms": done.summary.latency_ms,
            "ledger": done.summary.ledger,
        },
        "kills": [kill._asdict() for kill in done.kills],
        "audit": done.audited.document,
    }
