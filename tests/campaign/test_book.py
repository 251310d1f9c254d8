"""The book survives interruptions, and the tables count what it holds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chaos.campaign.book import CampaignBook, CampaignSettings, Injected, OtherCampaign, RunResult
from chaos.campaign.table import by_fault, markdown, text, totals

SETTINGS = CampaignSettings(seed=1, faults=2, rate=30.0, fresh_every=5, proxy=True, only=[])


def injected(
    fault: str, target: str, recovered_s: float | None, outcome: str = "proved"
) -> Injected:
    """An injection that ended."""
    return Injected(
        fault=fault, target=target, outcome=outcome, detail="why", recovered_s=recovered_s
    )


def timed(fault: str, target: str, **times: float | None) -> Injected:
    """A proved injection and when it was."""
    return msgspec.structs.replace(injected(fault, target, None), **times)


def result(number: int, injections: list[Injected], verdict: str = "holds") -> RunResult:
    """A run of 100 orders."""
    return RunResult(
        number=number, seed=number, lab=0, at="", seconds=9.0, accepted=100, refused=1, unknown=2,
        injections=injections, result=verdict, violated=["P1"] if verdict == "violated" else [],
        unrest="", orders_audited=100, records_audited=1_000, repeated=3, dead_letters=0, parked=0,
        audit_s=1.0, examined={"P1": 100},
    )  # fmt: skip


def test_finished_runs_are_read_again_and_a_torn_line_is_not(tmp_path: Path) -> None:
    """A campaign goes on behind its last whole line."""
    book = CampaignBook(tmp_path / "c", SETTINGS)
    assert book.runs() == []
    runs = [result(0, [injected("kill", "web-1", 1.5)]), result(1, [])]
    for one in runs:
        book.append(one)
    with (tmp_path / "c/runs.jsonl").open("ab") as file:
        file.write(b'{"number": 2, "se')
    assert CampaignBook(tmp_path / "c", SETTINGS).runs() == runs


def test_another_campaign_is_not_continued_in_the_same_place(tmp_path: Path) -> None:
    """Its runs would not be comparable; the message says what to do."""
    CampaignBook(tmp_path, SETTINGS)
    with pytest.raises(OtherCampaign, match="use another --dir"):
        CampaignBook(tmp_path, msgspec.structs.replace(SETTINGS, seed=2))


RUNS = [
    result(0, [injected("kill", "web-1", 1.0), injected("kill", "relay-1", 3.0)]),
    result(1, [injected("kill", "web-1", 2.0), injected("kill", "web-1", None)]),
    result(2, [injected("pause", "web-1", None, "void")], "violated"),
    result(3, [injected("poison", "topics", None)], "unknown"),
]


def test_everything_is_counted_once() -> None:
    """Runs by verdict, orders, injections, and what proved nothing."""
    sums = totals(RUNS)
    assert (sums.runs, sums.held, sums.violated, sums.unknown) == (4, 2, 1, 1)
    assert (sums.orders, sums.unknown_answers) == (400, 8)
    assert (sums.injections, sums.proved, sums.void) == (6, 5, 1)
    assert (sums.kinds, sums.pairs) == (2, 3)


def test_recovery_is_told_by_nearest_rank_and_what_was_not_seen_is_told_too() -> None:
    """Three times of kills, one kill without any; poison has nothing to recover."""
    rows = {row[0]: row for row in by_fault(RUNS)}
    assert rows["kill"][:8] == ("kill", "2", "4", "0", "2.00 s", "3.00 s", "3.00 s", "1")
    assert rows["pause"] == ("pause", "1", "0", "1", "-", "-", "-", "0", "-", "-")
    assert rows["poison"][7] == "-"


def test_recovery_alone_and_in_company_are_told_apart() -> None:
    """A fault that waits for the end of another says nothing about itself; role dlq waits for
    work."""
    among = [
        timed("kill", "web-1", started_s=10, lasted_s=1, recovered_s=2.0),
        timed("kill", "payment-1", started_s=30, lasted_s=1, recovered_s=9.0),
        timed("net_down", "kafka-proxy", started_s=35, lasted_s=10, recovered_s=0.1),
        timed("kill", "dlq-1", started_s=60, lasted_s=1, recovered_s=None),
    ]
    rows = {row[0]: row for row in by_fault([result(0, among)])}
    assert rows["kill"][4:] == ("5.50 s", "9.00 s", "9.00 s", "0", "1", "2.00 s")
    assert rows["net_down"][8:] == ("0", "-")


def test_a_failing_run_comes_with_the_command_that_repeats_it() -> None:
    """So does a void injection with its reason, and an impossible one is not forgotten."""
    told = text(RUNS, ["disk_full at postgres: no loop device"], "symphony campaign --run {number}")
    assert "run 2 is violated (P1): repeat it by symphony campaign --run 2" in told
    assert "run 2: pause at web-1 is void: why" in told
    assert "not covered: disk_full at postgres: no loop device" in told
    assert "3/n" not in told
    assert "at most 100.0% of such runs" in text(RUNS[:2], [], "x")
    page = markdown(RUNS, [], "symphony campaign --runs 4", "2 cores", "2026-11-21")
    assert "| kill | 2 | 4 | 0 |" in page
    assert "- run 2 (seed 2) is violated (P1)" in page
