"""Every fault of the nemesis on a real lab under load: its effect is seen, and it ends.

One lab for the module. What a machine cannot do is skipped with the fault's own reason.
NEMESIS_LONG=1 adds what takes long; NEMESIS_LAB_DIR keeps the lab for inspection.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from app.settings import load_settings
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis import http, lease
from chaos.nemesis.command import nemesis as command
from chaos.nemesis.engine import Action, Injection, Nemesis
from chaos.nemesis.faults import REGISTRY
from chaos.nemesis.faults.disk_slow import BLKIO
from chaos.nemesis.guardian import directory_of
from chaos.nemesis.ledger import ENDS, VERDICTS, Ledger, Phase
from chaos.nemesis.world import World
from chaos.workload.target import target_of
from chaos.workload.traffic import Traffic
from tests.faults.nemesis_effects import EFFECTS, LONG, Effect
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

SEED = 11
ORPHANED = [
    [
        ("pause", "shipping-1"),
        ("restart", "dlq-1"),
        ("gateway_latency", "gateway"),
        ("net_latency", "gateway-proxy"),
        ("disk_full", "orchestrator-1"),
        ("clock", "web-1"),
        ("row_lock", "inventory"),
    ],
    # by itself: no worker starts in time when the database's disk is at a crawl
    [("disk_slow", "postgres")],
]
OWNER = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from chaos.lab.client import Lab
from chaos.nemesis.engine import Action, Nemesis
nemesis, wanted = Nemesis(Lab(Path(sys.argv[1]))), json.loads(sys.argv[2])
with ThreadPoolExecutor(len(wanted)) as pool:
    list(pool.map(lambda one: nemesis.run(Action(*one, 300.0)), wanted))
"""
RATE_PER_S = 15.0
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def lab(servers_dir: Path) -> Iterator[Lab]:
    """A lab with the proxy and two payment workers."""
    kept = os.environ.get("NEMESIS_LAB_DIR")
    lab_dir = Path(kept) if kept else servers_dir / "nemesis"
    lab_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    settings = load_settings(lab_dir=lab_dir, lab_ready_timeout_s=240, lab_proxy=True)
    lab = Lab.up(make_plan(settings, workers={"payment": "2"}), detach=False)
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def traffic(lab: Lab) -> Iterator[Traffic]:
    """Orders of every class while the faults come; whatever becomes of each request."""
    with Traffic(target_of(lab), rate_per_s=RATE_PER_S, seed=SEED) as traffic:
        traffic.flow(30)
        yield traffic


@pytest.fixture
def nemesis(lab: Lab, traffic: Traffic) -> Nemesis:
    """The nemesis over that lab."""
    return Nemesis(lab, seed=SEED, recovery_limit_s=PATIENCE_S)


@pytest.mark.parametrize(
    "effects", EFFECTS, ids=lambda effects: "+".join(f"{one.fault}-{one.target}" for one in effects)
)
def test_a_fault_shows_its_effect_and_ends(nemesis: Nemesis, effects: Sequence[Effect]) -> None:
    """Proved by what was seen, announced before and concluded after, and work goes on."""
    if effects in LONG and not os.environ.get("NEMESIS_LONG"):
        pytest.skip("it takes long: set NEMESIS_LONG=1")
    possible = {(cell.fault, cell.target): cell.reason for cell in nemesis.matrix()}
    reasons = [why for one in effects if (why := possible[one.fault, one.target])]
    if reasons:
        pytest.skip("; ".join(reasons))
    with ThreadPoolExecutor(len(effects)) as pool:
        done = list(pool.map(lambda one: nemesis.run(action(one)), effects))
    for effect, injection in zip(effects, done, strict=True):
        check(nemesis, effect, injection)
    assert lease.found(directory_of(nemesis.lab.files.root)) == []
    wait_until(lambda: all_ready(nemesis.lab), timeout_s=PATIENCE_S, what="all serve again")


@pytest.mark.parametrize("orphaned", ORPHANED, ids=lambda orphaned: orphaned[0][0])
def test_faults_end_when_their_owner_is_killed(
    nemesis: Nemesis, orphaned: Sequence[tuple[str, str]]
) -> None:
    """kill -9 of an owner of many faults: the guardian undoes them all, says so, ends itself."""
    possible = {(cell.fault, cell.target) for cell in nemesis.matrix() if not cell.reason}
    wanted = [one for one in orphaned if one in possible]
    if not wanted:
        pytest.skip(f"this machine cannot do {orphaned}")
    before, usual = len(nemesis.ledger.lines()), troubles(nemesis)
    root = nemesis.lab.files.root
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(root), json.dumps(wanted)])
    try:
        for told in all_told(nemesis, before, len(wanted)):
            assert told.startswith("proved"), told
        assert len(troubles(nemesis)) > len(usual)
    finally:
        owner.kill()
        owner.wait()
    wait_until(lambda: not lease.found(directory_of(root)), timeout_s=PATIENCE_S, what="all end")
    ended = [line for line in nemesis.ledger.lines()[before:] if line["phase"] == "expired"]
    assert len(ended) == len(wanted)
    assert {line["detail"] for line in ended} == {"its owner has ended"}
    wait_until(
        lambda: troubles(nemesis) == usual, timeout_s=PATIENCE_S, what=f"nothing but {usual}"
    )
    wait_until(lambda: not guardians(root), timeout_s=15, what="the guardian ends")


def test_ctrl_c_ends_a_fault_cleanly(nemesis: Nemesis) -> None:
    """The command undoes what it did, says `ended`, and leaves with the status of Ctrl-C."""
    running = start("run", "gateway_timeout", "--for", "50s", lab=nemesis.lab)
    wait_until(lambda: last(nemesis) is Phase.PROVED, timeout_s=PATIENCE_S, what="it is proved")
    running.send_signal(signal.SIGINT)
    assert running.wait(PATIENCE_S) == 130
    assert last(nemesis) is Phase.ENDED
    assert lease.found(directory_of(nemesis.lab.files.root)) == []


def test_the_command_line_runs_one_and_prints_it(nemesis: Nemesis) -> None:
    """`nemesis run` with --json is the injection; `nemesis ls` has every cell of the matrix."""
    cells = json.loads(call("ls", "--json", lab=nemesis.lab).stdout)
    assert {"fault", "target", "meaning", "reason"} == set(cells[0])
    assert len(cells) == len(nemesis.matrix())
    done = call("run", "backend_terminate", "--target", "web-1", "--json", lab=nemesis.lab)
    told = json.loads(done.stdout)
    assert (done.exit_code, told["outcome"], told["proved"]) == (0, "proved", True)
    assert told["recovered_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("run", "explode"), "unknown fault 'explode'"),
        (("run", "kill", "--target", "payment-9"), "kill cannot be aimed at 'payment-9', but at:"),
        (("run", "pause", "--for", "10"), "--for 10: a time like 500ms, 10s or 2m"),
        (("run", "pause", "--target", "web-1", "--param", "x=1"), "no parameter ['x']"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(
    nemesis: Nemesis, arguments: Sequence[str], complaint: str
) -> None:
    """Names what is known, and does nothing."""
    before = len(nemesis.ledger.lines())
    done = call(*arguments, lab=nemesis.lab)
    assert isinstance(done.exception, LabError)
    assert complaint in done.exception.detail
    assert len(nemesis.ledger.lines()) == before


def test_every_started_action_has_a_verdict_and_an_end(nemesis: Nemesis) -> None:
    """After all of it the ledger is as the auditor wants it."""
    book: dict[str, list[Phase]] = {}
    for line in nemesis.ledger.lines():
        book.setdefault(line["action"], []).append(Phase(line["phase"]))
    for phases in book.values():
        if phases != [Phase.SKIPPED]:
            assert phases[0] is Phase.STARTED
            assert len(VERDICTS & set(phases)) == len(ENDS & set(phases)) == 1
            assert len(phases) == 3


def action(effect: Effect) -> Action:
    """What is to be done to show an effect."""
    return Action(effect.fault, effect.target, effect.for_s, params=effect.params)


def check(nemesis: Nemesis, effect: Effect, injection: Injection) -> None:
    """It was proved, ended by its owner, concluded in the ledger; work that needed it goes on."""
    assert injection.proved, injection
    assert not injection.expired
    assert effect.after in injection.detail, injection
    assert injection.after_failed == "", injection
    assert nemesis.ledger.phases(injection.action) == {Phase.STARTED, Phase.PROVED, Phase.ENDED}
    assert injection.ended_s - injection.started_s >= effect.for_s
    if REGISTRY[effect.fault].recovers_from != "none":
        assert injection.recovered_s, injection


def all_ready(lab: Lab) -> bool:
    """Whether every part serves that is meant to run."""
    return all(row["state"] in ("ready", "stopped") for row in lab.status()["processes"])


def troubles(nemesis: Nemesis) -> list[str]:
    """Whatever the faults of ORPHANED do while they last, and workers that a storm left ended."""
    world = World(nemesis.lab)
    assert world.proxy is not None
    proxy = http.ask("GET", f"{world.proxy['url']}/proxies/gateway")
    found = [row["name"] for row in world.rows() if row["state"] != "ready"]
    found += ["a toxic" for _ in proxy["toxics"]]
    if http.ask("GET", f"{world.gateway_url}/v1/mode")["latency_ms_min"]:
        found.append("a slow gateway")
    if list(BLKIO.glob("nemesis-*")):
        found.append("a control group")
    if os.path.ismount(world.tables_dir("orchestrator-1")):
        found.append("a small disk")
    if world.delivery("web-1").get("inside", {}).get("skew_s"):
        found.append("a wrong clock")
    held = "select from pg_stat_activity where application_name like 'nemesis-%%'"
    return found + ["a lock" for _ in world.sql(held)]


def verdicts(nemesis: Nemesis, since: int) -> list[str]:
    """What became of each fault since then, as far as its verdict is known."""
    return [
        f"{line['phase']} {line['fault']} at {line['target']}: {line['detail']}"
        for line in nemesis.ledger.lines()[since:]
        if Phase(line["phase"]) in VERDICTS
    ]


def all_told(nemesis: Nemesis, since: int, count: int) -> list[str]:
    """The verdicts once there are `count`; AssertionError with those that came when some do not."""
    wait_s = PATIENCE_S * 2
    deadline = time.monotonic() + wait_s
    while len(told := verdicts(nemesis, since)) < count:
        assert time.monotonic() < deadline, f"of {count} verdicts after {wait_s:g} s: {told}"
        time.sleep(0.1)
    return told


def last(nemesis: Nemesis) -> Phase:
    """What the ledger's last line says."""
    return Phase(Ledger(nemesis.ledger.path).lines()[-1]["phase"])


def guardians(lab_dir: Path) -> list[int]:
    """Guardians of this lab that run."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if {"chaos.nemesis.guardian", str(lab_dir)} <= set(process.info["cmdline"] or ())
    ]


def start(*arguments: str, lab: Lab) -> subprocess.Popen[Any]:
    """Start `symphony nemesis`."""
    program = [sys.executable, "-m", "app.cli", "nemesis", *arguments]
    return subprocess.Popen([*program, "--lab-dir", str(lab.files.root)])


def call(*arguments: str, lab: Lab) -> Result:
    """Run `symphony nemesis` in this process."""
    return CliRunner().invoke(command, [*arguments, "--lab-dir", str(lab.files.root)])
