"""The book survives interruptions, and the tables count what it holds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chaos.campaign.book import (
    CampaignBook,
    CampaignSettings,
    Injected,
    OtherCampaign,
    RunResult,
    Uncovered,
)
from chaos.campaign.table import by_fault, class_of, markdown, text, totals

SETTINGS = CampaignSettings(seed=1, faults=2, rate=30.0, fresh_every=5, proxy=True, only=[])


def injected(
    fault: str, target: str, recovered_s: float | None, outcome: str = "proved"
) -> Injected:
    """An injection that ended."""
    return Injected(
        fault=fault, target=target, outcome=outcome, detail="why", recovered_s=recovered_s
    )


def but(fault: str, target: str, **times: float | str | None) -> Injected:
    """A proved injection, and what else is known of it."""
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
    assert (sums.injections, sums.proved, sums.void, sums.skipped) == (6, 5, 1, 0)
    assert (sums.kinds, sums.pairs) == (2, 3)


def test_recovery_is_told_by_nearest_rank_and_what_was_not_seen_is_told_too() -> None:
    """Three times of kills, one kill without any; poison has nothing to recover."""
    rows = {row[0]: row for row in by_fault(RUNS)}
    assert rows["kill (worker)"][1:9] == (
        "2", "4", "0", "0", "2.00 s", "3.00 s", "3.00 s", "1",
    )  # fmt: skip
    assert rows["pause (worker)"][1:] == ("1", "0", "1", "0", "-", "-", "-", "0", "-", "-")
    assert rows["poison (topics)"][8] == "-"


def test_recovery_of_workers_is_told_apart_from_that_of_servers() -> None:
    """A row for every fault and class of targets, so that a bound for workers can be read off."""
    kills = {"web-1": 1.0, "dlq-2": 2.0, "broker": 9.0, "gateway-sim": 4.0}
    rows = by_fault([result(0, [injected("kill", *kill) for kill in kills.items()])])
    told = {row[0]: row[7] for row in rows}
    assert told == {
        "kill (broker)": "9.00 s",
        "kill (gateway)": "4.00 s",
        "kill (worker)": "1.00 s",
    }
    classes = {
        "payment": "role",
        "kafka-proxy": "proxy",
        "postgres": "postgres",
        "topics": "topics",
    }
    assert {target: class_of(target) for target in classes} == classes


def test_recovery_alone_and_in_company_are_told_apart() -> None:
    """A fault that waits for the end of another says nothing about itself; role dlq waits for
    work."""
    among = [
        but("kill", "web-1", started_s=10, lasted_s=1, recovered_s=2.0),
        but("kill", "payment-1", started_s=30, lasted_s=1, recovered_s=9.0),
        but("net_down", "kafka-proxy", started_s=35, lasted_s=10, recovered_s=0.1),
        but("kill", "dlq-1", started_s=60, lasted_s=1, recovered_s=None),
    ]
    rows = {row[0]: row for row in by_fault([result(0, among)])}
    assert rows["kill (worker)"][5:] == ("5.50 s", "9.00 s", "9.00 s", "0", "1", "2.00 s")
    assert rows["net_down (proxy)"][9:] == ("0", "-")


def test_a_failing_run_comes_with_the_command_that_repeats_it() -> None:
    """On the terminal and in what is published; so does a void injection with its reason."""
    told = text(RUNS, "symphony campaign --run {number} --dir '{}'")
    page = markdown(RUNS, "again --run {number}", "symphony campaign --runs 4", "2 cores", "2026")
    wanted = "run 2 (seed 2) is violated (P1): repeat it by `symphony campaign --run 2 --dir '{}'`"
    assert wanted in told
    assert "- run 2 (seed 2) is violated (P1): repeat it by `again --run 2`" in page
    assert "run 2: pause at web-1 is void: why" in told
    assert "- run 2: pause at web-1 is void: why" in page
    assert "3/n" not in told
    assert "at most 100.0% of such runs" in text(RUNS[:2], "x")
    assert "| kill (worker) | 2 | 4 | 0 | 0 |" in page


def test_what_was_not_possible_is_not_covered_unless_another_run_proved_it() -> None:
    """A skipped injection is neither proved nor void, and its cell is listed once."""
    cells = [("disk_full", "web-1"), ("memory", "web-1")]
    gaps = [Uncovered(fault=fault, target=target, reason="no room") for fault, target in cells]
    skipped = injected("disk_full", "web-1", None, "skipped")
    runs = [
        msgspec.structs.replace(result(0, [skipped]), not_covered=gaps),
        msgspec.structs.replace(result(1, [injected("memory", "web-1", None)]), not_covered=gaps),
    ]
    sums = totals(runs)
    assert (sums.proved, sums.void, sums.skipped, sums.pairs) == (1, 0, 1, 1)
    for told in (text(runs, "x"), markdown(runs, "x", "c", "m", "d")):
        assert told.count("not covered: disk_full at web-1: no room") == 1
        assert "not covered: memory" not in told
        assert "run 0: disk_full at web-1 is skipped: why" in told


def test_what_did_not_end_in_good_order_is_said_although_it_was_proved() -> None:
    """How many, and which."""
    odd = [
        but("pause", "web-1", expired=True),
        but("restart", "postgres", after_failed="it did not come back"),
        injected("kill", "web-1", 1.0),
    ]
    runs = [result(7, odd)]
    for told in (text(runs, "x"), markdown(runs, "x", "c", "m", "d")):
        assert "1 expired, 1 left something wrong behind" in told
        assert "run 7: pause at web-1 is proved but expired" in told
        assert "run 7: restart at postgres is proved, but after its end: it did not come" in told
    assert "expired" not in text(RUNS, "x")


def test_a_book_of_an_older_version_is_read(tmp_path: Path) -> None:
    """What it does not say has a default."""
    book = CampaignBook(tmp_path, SETTINGS)
    book.append(result(0, [injected("kill", "web-1", 1.0)]))
    line = (tmp_path / "runs.jsonl").read_text()
    older = line.replace(',"not_covered":[]', "").replace(',"after_failed":""', "")
    assert older != line
    (tmp_path / "runs.jsonl").write_text(older)
    assert book.runs() == [result(0, [injected("kill", "web-1", 1.0)])]
