"""Whole GameDays on one real lab: one that passes, one that the guard ends, one by Chaos Toolkit
alone, and one whose process is killed in the middle.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psycopg2
import pytest
import yaml
from typer.testing import CliRunner, Result

from app.settings import load_settings
from chaos.audit import run_audit
from chaos.console.api import Api, ApiError
from chaos.gameday import catalogue, lock
from chaos.gameday.book import Book
from chaos.gameday.command import gameday
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.nemesis import lease
from chaos.nemesis.faults.pause import is_stopped
from chaos.nemesis.guardian import directory_of
from chaos.observe.exam import NOT_SAT
from chaos.observe.programs import observable
from chaos.workload.target import target_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

PATIENCE_S = 120.0
STOCK = """
import json, sys
from chaoslib.experiment import ensure_experiment_is_valid, load_experiment, run_experiment
experiment = load_experiment(sys.argv[1])
ensure_experiment_is_valid(experiment)
journal = run_experiment(
    experiment, {"runtime": experiment["runtime"]}, experiment_vars=(json.loads(sys.argv[2]), {})
)
with open(sys.argv[3], "w") as file:
    json.dump(journal, file)
"""
"""What `chaos run` of the package chaostoolkit does, which is no dependency of ours."""
RUN = "from chaos.gameday.command import gameday; gameday()"


OBSERVED = observable()


@pytest.fixture(scope="module")
def lab(servers_dir: Path) -> Iterator[Lab]:
    """A lab as `symphony up --observe` makes it, or `up` where Prometheus is not installed."""
    kept = os.environ.get("GAMEDAY_LAB_DIR")
    lab_dir = Path(kept) if kept else servers_dir / "gameday"
    lab_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    lab = Lab(lab_dir)
    if lab.running():
        yield lab
        return
    settings = load_settings(lab_dir=lab_dir, lab_ready_timeout_s=240, lab_observe=OBSERVED)
    lab = Lab.up(make_plan(settings), detach=False)
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture
def api(lab: Lab) -> Api:
    """The lab's API."""
    return Api(target_of(lab).url)


def symphony(lab: Lab, *words: str) -> Result:
    """`symphony gameday ...` in this process."""
    return CliRunner().invoke(gameday, [*words, "--lab-dir", str(lab.files.root)])


def short(tmp_path: Path, name: str, **knobs: float) -> Path:
    """A copy of a shipped experiment with other knobs."""
    data = yaml.safe_load((catalogue.DIRECTORY / f"{name}.yaml").read_text())
    data["configuration"] |= {"warm_up_s": 3, "rate_per_s": 12, **knobs}
    data["extensions"][0]["orders_min"] = 50
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def test_a_gameday_passes_and_tells_what_it_saw(lab: Lab, tmp_path: Path) -> None:
    """From the file to the report, by the command line: a freeze, proved, recovered, audited, and
    noticed by the real alerts.
    """
    path = short(tmp_path, "consumer-lag")
    done = symphony(
        lab, "run", str(path), "--duration", "14s", "--seed", "7", "--report-dir", str(tmp_path)
    )
    assert done.exit_code == 0, done.output
    assert "PASSED" in done.output
    journal = json.loads((tmp_path / "journal.json").read_text())
    ours = journal["x-symphony"]
    assert (journal["status"], journal["deviated"], ours["verdict"]) == (
        "completed",
        False,
        "passed",
    )
    assert journal["steady_states"]["before"]["steady_state_met"]
    assert journal["steady_states"]["after"]["steady_state_met"]
    assert ours["steady_after_rollback"] is True
    (pause,) = ours["faults"]
    assert (pause["fault"], pause["outcome"]) == ("pause", "proved")
    assert pause["recovered_s"] >= 0
    assert ours["audit"]["result"] == "holds"
    assert ours["load"]["accepted"] >= 50
    names = [one["name"] for one in ours["phases"]]
    order = ["warm-up", "steady state before", "method", "recovery", "rollback", "audit", "report"]
    assert [name for name in names if name in order] == order
    took = [ours[name] for name in ("settle_s", "audit_s", "report_s")]
    assert all(one > 0 for one in took), took
    after = ours["phases"][names.index("audit") - 1]["ended_s"]
    assert sum(took) > ours["phases"][-1]["began_s"] - after - 1, "they are all of it"
    page = (tmp_path / "report.html").read_text()
    exam = ours["exam"]
    assert page.count("<svg") == 3 + bool(exam.get("firings") or exam.get("rows"))
    if OBSERVED:
        assert exam["sat"], exam
        answers = {one["name"]: one["answer"] for one in exam["rows"]}
        assert answers == {"RoleAbsent": "in time", "WorkerDown": "in time"}, exam
        assert 0 < exam["rows"][0]["detection_s"] <= exam["rows"][0]["within_s"]
        assert "<h2>Alert exam</h2>" in page
        assert re.search(r"\d+\.\d s  alert exam: ", done.output)
    else:
        assert (exam["sat"], exam["reasons"]) == (False, [NOT_SAT])
    assert not re.search(r"<script|src=|href=\"(?!#)|url\(|@import", page)
    suite = ElementTree.fromstring((tmp_path / "junit.xml").read_text())
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert "| pause | shipping-1 | proved |" in (tmp_path / "report.md").read_text()
    again = symphony(lab, "ls", "--json")
    assert json.loads(again.output)[0]["verdict"] == "passed"
    told = symphony(lab, "report")
    assert told.exit_code == 0
    assert "PASSED" in told.output


def test_the_guard_ends_a_gameday_that_was_asked_for_by_the_api(lab: Lab, api: Api) -> None:
    """A frozen database: aborted within seconds, awake again, recovered and audited; one at a time;
    and the worker of role gameday is started when it is needed.
    """
    wanted = {
        "experiment": "guard-aborts",
        "overrides": {"ratePerS": 12, "durationS": 60, "warmUpS": 3},
    }
    run = api.post("/api/gameday/start", wanted)
    assert (run["status"], run["verdict"]) == ("QUEUED", None)
    with pytest.raises(ApiError) as refused:
        api.post("/api/gameday/start", wanted)
    assert refused.value.status == 409

    def ended() -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = api.get(f"/api/gameday/runs/{run['id']}")
        except ApiError:  # the database is frozen
            return None
        return found if found["status"] == "ENDED" else None

    found = wait_until(ended, timeout_s=3 * PATIENCE_S, what="the GameDay ends", every_s=0.5)
    assert found["verdict"] == "aborted", found
    assert found["error"].startswith("guard: ")
    ours = api.get(f"/api/gameday/runs/{run['id']}/journal")["x-symphony"]
    (pause,) = ours["faults"]
    assert pause["outcome"] == "proved"
    assert pause["ended_s"] - pause["began_s"] < 40, "the guard ended it, not its duration"
    assert ours["audit"]["result"] == "holds"
    assert ours["as_expected"]
    assert api.get("/api/gameday/status") == {"running": None}
    assert api.get("/api/gameday/runs?limit=1")["runs"][0]["id"] == run["id"]
    with pytest.raises(ApiError) as over:
        api.post(f"/api/gameday/runs/{run['id']}/abort", {})
    assert over.value.status == 409


def test_chaos_toolkit_alone_runs_the_same_file(lab: Lab, tmp_path: Path) -> None:
    """Stock Chaos Toolkit and the shipped file: load, guard, audit and verdict all the same."""
    out = tmp_path / "journal.json"
    path = catalogue.DIRECTORY / "duplicate-events.yaml"
    knobs = {"duration_s": 14, "warm_up_s": 3, "rate_per_s": 20}
    done = subprocess.run(
        [sys.executable, "-c", STOCK, str(path), json.dumps(knobs), str(out)],
        env={**os.environ, "SYMPHONY_LAB_DIR": str(lab.files.root)},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    journal = json.loads(out.read_text())
    ours = journal["x-symphony"]
    assert ours["verdict"] == "passed", ours["reasons"]
    assert (journal["status"], journal["deviated"]) == ("completed", False)
    assert [one["outcome"] for one in ours["faults"]] == ["proved", "proved"]
    assert journal["rollbacks"][0]["output"] == {"ended": True, "left": []}
    this, guarded = Book(target_of(lab).dsn).recent(2)
    assert this.requested_by == "chaos run"
    compared = symphony(lab, "compare", guarded.id, this.id)
    assert compared.exit_code == 3, "an aborted and a passed one differ"
    assert re.search(r"verdict +aborted +passed", compared.output)


def with_rule(path: Path) -> Path:
    """The same experiment with a chaos rule that outlasts it."""
    data = yaml.safe_load(path.read_text())
    arguments = {"fault": "delay", "scope": {"step": "payment"}, "p": 0.1, "for_s": 600}
    provider = {"module": "chaos.gameday.actions", "func": "chaos_rule", "arguments": arguments}
    rule = {"type": "action", "name": "late", "background": True}
    data["method"].insert(0, {**rule, "provider": {"type": "python", **provider}})
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def test_nothing_stays_broken_when_the_gameday_is_killed(
    lab: Lab, api: Api, tmp_path: Path
) -> None:
    """kill -9 while a worker is frozen and a rule in force: the guardian wakes it, the rule's
    lease ends, the run is inconclusive, another one may begin, and every book agrees.
    """
    path = with_rule(short(tmp_path, "consumer-lag", duration_s=60))
    victim = lab.process("shipping-1")["pid"]
    owner = subprocess.Popen(
        [sys.executable, "-c", RUN, "run", str(path), "--lab-dir", str(lab.files.root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_stopped(victim), timeout_s=PATIENCE_S, what="the victim is frozen")
        rules = [one["id"] for one in api.get("/api/chaos/rules")["rules"]]
        assert any(one.startswith("gameday-") for one in rules), rules
        os.kill(owner.pid, signal.SIGKILL)
    finally:
        owner.kill()
        owner.wait()
    assert lease.found(directory_of(lab.files.root)), "the fault was in force when its owner died"
    wait_until(lambda: not is_stopped(victim), timeout_s=10, what="the victim is awake")
    wait_until(
        lambda: not lease.found(directory_of(lab.files.root)), timeout_s=10, what="no lease is left"
    )
    target = target_of(lab)
    book = Book(target.dsn)
    run = book.recent(1)[0]
    assert run.status == "RUNNING"
    with psycopg2.connect(target.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("update ops.gameday_run set lease_until = now() where id = %s", (run.id,))
    assert book.current(partial(lock.held, lab.files.root)) is None
    assert book.recent(1)[0].verdict == "inconclusive"
    wait_until(
        lambda: not api.get("/api/chaos/rules")["rules"], timeout_s=30, what="no rule is left"
    )
    done = run_audit(target, target.ledgers(), deadline_s=150)
    assert done.exit_code == 0, f"{done.text}\n{done.sentence}"
