"""Facts about loops that a worker needs as long as it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app import loops
from app.loops import keep_on
from chaos.control import agent as chaos_agent
from chaos.control.agent import Agent
from chaos.gameday import book, role
from chaos.gameday.book import Teller
from chaos.gameday.role import GameDayService
from chaos.lab.process import LabError

pytestmark = pytest.mark.unit


def failing(*outcomes: object) -> tuple[Callable[[], Awaitable[object]], list[object]]:
    """Something to be done, each time with the next outcome; and what was not asked for yet."""
    left = list(outcomes)

    async def once() -> object:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return once, left


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reasons that loops log."""
    said: list[str] = []

    def error(event: str, **fields: Any) -> None:
        assert event == "loop.failed"
        said.append(f"{fields['loop']}: {fields['error']}")

    monkeypatch.setattr(loops, "log", SimpleNamespace(error=error))
    return said


async def test_a_failure_is_told_and_ends_nothing(told: list[str]) -> None:
    """Once as long as it is the same; again when it comes again after a success."""
    once, left = failing(OSError("a"), OSError("a"), KeyError("b"), None, OSError("a"), True, None)
    await asyncio.wait_for(keep_on("x", once, 0), 5)
    assert left == [None], "True ends it"
    assert told == ["x: a", "x: 'b'", "x: a"]


async def test_it_is_cancelled_at_once(told: list[str]) -> None:
    """A worker that stops waits for none of them."""
    once, _ = failing(None)
    task = asyncio.create_task(keep_on("x", once, 3600))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == []


async def test_the_kill_switch_is_looked_at_again_after_any_failure(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a statement that the server refuses: rules must still end when it is thrown."""
    found = failing(0, ValueError("refused"), 3)[0]
    thrown = asyncio.Event()
    settings = SimpleNamespace(
        worker_id="w-1", chaos_switch_poll_s=0, chaos_report_interval_s=3600, model_copy=None
    )
    settings.model_copy = lambda update: settings
    one = object.__new__(Agent)
    rules = SimpleNamespace(epoch=0, stop=lambda: None, take_hits=list)

    def switch(epoch: int) -> None:
        rules.epoch = epoch
        thrown.set()

    async def nothing() -> None:
        """A board that reads nothing, a database that is none."""

    async def epoch(_: Any) -> object:
        return await found() if not thrown.is_set() else 3

    async def opened(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(close=nothing)

    rules.switch = switch
    board = SimpleNamespace(on_start=nothing, on_stop=nothing, renew=lambda: None)
    vars(one).update(_app=SimpleNamespace(settings=settings), rules=rules, board=board,
                     _db=None, _tasks=[], _untold={})  # fmt: skip
    monkeypatch.setattr(chaos_agent.chaos_switch, "epoch", epoch)
    monkeypatch.setattr(chaos_agent.Database, "open", opened)
    await one.on_start()
    await asyncio.wait_for(thrown.wait(), 5)
    await one.on_stop()
    assert (rules.epoch, told) == (3, ["chaos switch: refused"])


async def test_a_gameday_that_cannot_be_begun_gets_its_verdict_and_the_next_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither it nor a failure of another kind ends the role's loop."""
    claim = failing(("run-1",), KeyError("a defect"), ("run-2",))[0]
    ended: dict[str, str] = {}

    async def lost(_: Any, run_id: str, why: str) -> None:
        ended[run_id] = why
        if len(ended) == 2:
            service._ending.set()

    async def claimed(*_: Any) -> object:
        return await claim()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no memory") if not ended else LabError("no such program")

    monkeypatch.setattr(role, "LOOK_S", 0)

    async def nothing(*_: Any) -> None:
        """No run has lapsed."""

    monkeypatch.setattr(role.gamedays, "expire", nothing, raising=False)
    monkeypatch.setattr(role.gamedays, "claim", claimed)
    monkeypatch.setattr(role.gamedays, "lost", lost)
    monkeypatch.setattr(role, "spawn", refuse)
    settings = SimpleNamespace(worker_id="gameday-1", lab_dir=str(tmp_path), drain_grace_s=1)
    service = GameDayService(cast(Any, SimpleNamespace(settings=settings, db=None)))
    await asyncio.wait_for(service._run(), 5)
    assert ended == {
        "run-1": "its process could not be started: no memory",
        "run-2": "its process could not be started: no such program",
    }


def test_a_wish_to_abort_is_heard_after_any_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that asks for it goes on."""
    answers: list[Any] = [KeyError("a defect"), True]

    def tell(*_: Any) -> bool:
        answer = answers.pop(0) if answers else True
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    monkeypatch.setattr(book, "TELL_S", 0.001)
    teller = Teller(cast(Any, SimpleNamespace(tell=tell)), "run-1")
    while not teller.tell("chaos", {}) and teller._thread.is_alive():
        teller._thread.join(0.005)
    assert teller.tell("chaos", {}) is True
    teller._enough.set()
    teller._thread.join(5)
