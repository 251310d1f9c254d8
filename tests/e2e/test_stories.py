"""The demos that tell one story each keep every promise that they make, on a real lab."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench.visible import outcomes
from chaos.console.recorded import place_recorded
from chaos.demo.game_day import alerts_fired
from chaos.demo.script import PromiseBroken, Script, Stage
from chaos.observe.exam import NOT_SAT
from chaos.observe.programs import observable
from tests.e2e.commands import symphony
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

PROMISES = {"happy": 6, "dlq": 13, "gameday": 6 + observable()}
"""One more of the GameDay where Prometheus is installed: its alerts fired in time."""

ORDER = {"customerId": "service-levels", "total": "15.00", "currency": "EUR"}
ROW = {"name": "BreakerOpen", "answer": "in time", "detection_s": 8.7, "within_s": 20.0}
EXAM = {"sat": True, "result": "nothing asked", "score": None, "reasons": []}


def books(stage: Stage) -> str:
    """What the auditor says of the lab now, with the timelines of what is wrong."""
    return symphony(stage, "audit", "--deadline", "60").stdout[-6_000:]


@pytest.mark.parametrize("name", PROMISES)
def test_a_story_keeps_its_promises(story_stage: Stage, name: str) -> None:
    """Exit code 0, every promise told, and nothing violated in the auditor's eyes."""
    done = symphony(story_stage, "demo", name, "--exit", timeout_s=400)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:] + books(story_stage)
    assert len(re.findall(r"\[ok\]", done.stdout)) == PROMISES[name]
    assert f"All {PROMISES[name]} promises were kept." in done.stdout
    assert "[ok] nothing is violated" in done.stdout
    assert "exactly" not in done.stdout.lower()
    if name == "gameday" and observable():
        assert re.search(r"SloBurn\w+ fired after \d+\.\d s", done.stdout)
        assert "[ok] the alerts that this fault must raise fired in time" in done.stdout


def test_an_order_counts_for_the_service_levels_soon(story_stage: Stage) -> None:
    """Within seconds of its end, on a lab at rest; how soon is what `bench.slo --visible` tells."""

    def counted() -> int:
        return outcomes(story_stage.api.get("/api/metrics/slo")) or 0

    before = counted()
    order_id = place_recorded(story_stage.target, ORDER, "counts-soon")["orderId"]
    wait_until(lambda: story_stage.in_state(order_id, "COMPLETED"), timeout_s=120, what="it ends")
    wait_until(lambda: counted() > before, timeout_s=10, what="it counts")


def test_a_story_does_not_end_a_lab_that_it_did_not_start(story_stage: Stage) -> None:
    """After the demos above the lab still runs."""
    assert story_stage.lab.running()


@pytest.mark.unit
@pytest.mark.parametrize(
    ("exam", "told"),
    [
        ({**EXAM, "rows": [ROW]}, ""),
        ({**EXAM, "rows": [ROW, {**ROW, "answer": "late"}], "result": "failed"}, "failed"),
        ({**EXAM, "rows": []}, "nothing asked"),
        ({**EXAM, "sat": False, "reasons": [NOT_SAT], "result": "unknown"}, NOT_SAT),
    ],
    ids=["in-time", "late", "nothing-asked", "not-sat"],
)
def test_an_observed_gameday_promises_its_alerts(exam: dict[str, Any], told: str) -> None:
    """Right rows keep the promise; no row, and an exam that was not sat, break it."""
    script = Script(lambda _: None)
    if not told:
        alerts_fired(script, exam)
        assert script.kept == 1
        return
    with pytest.raises(PromiseBroken, match=told):
        alerts_fired(script, exam)


@pytest.mark.unit
def test_a_broken_promise_ends_the_story_and_says_what_was_seen() -> None:
    """A demo cannot pass over what it did not see."""
    told: list[str] = []
    script = Script(told.append)
    script.promise("the sun rises", True)
    with pytest.raises(PromiseBroken, match="promised that pigs fly, but: they walk"):
        script.promise("pigs fly", False, "they walk")
    with pytest.raises(PromiseBroken, match="within 0 s"):
        script.wait("somebody comes", lambda: None, 0)
    assert script.kept == 1
    assert told == ["   [ok] the sun rises"]


def test_the_page_of_demos_shows_every_story() -> None:
    """docs/demos.md has the command of each."""
    page = (Path(__file__).parents[2] / "docs" / "demos.md").read_text()
    for name in PROMISES:
        assert f"symphony demo {name}" in page
