"""A demo that checks itself: scenes with promises, each seen to be kept or the demo fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from app.errors import SymphonyError
from app.settings import load_settings
from chaos.console.api import Api, ApiError
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.workload.target import Target, target_of

LOOK_S = 0.2
NOT_FOUND = 404
T = TypeVar("T")


class PromiseBroken(SymphonyError):
    """A demo promised something that was not seen."""

    code = "promise_broken"
    doc = "A demo promised something that was not seen; the message says what was."


class Script:
    """Tells a demo scene by scene; `kept` counts the promises that were seen to hold."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._scenes = 0
        self.kept = 0

    def scene(self, title: str) -> None:
        """Begin the next scene."""
        self._scenes += 1
        self._say(f"\n{self._scenes}. {title}")

    def tell(self, line: str) -> None:
        """Add one line to the scene."""
        self._say(f"   {line}")

    def promise(self, what: str, kept: bool, seen: object = "") -> None:
        """State what must be so. Raises PromiseBroken with what was seen instead."""
        if not kept:
            raise PromiseBroken(f"it was promised that {what}, but: {seen}")
        self.kept += 1
        self._say(f"   [ok] {what}")

    def wait(self, what: str, look: Callable[[], T | None], timeout_s: float) -> T:
        """Look until there is something, and return it; PromiseBroken after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (found := look()) is None:
            if time.monotonic() > deadline:
                raise PromiseBroken(f"it was promised that {what}, but not within {timeout_s:g} s")
            time.sleep(LOOK_S)
        self.promise(what, True)
        return found


class Stage:
    """A lab on which a demo plays: its API, its files, its processes."""

    def __init__(self, lab: Lab, target: Target) -> None:
        self.lab = lab
        self.target = target
        self.api = Api(target.url)

    def saga(self, order_id: str) -> dict[str, Any] | None:
        """The saga of an order, None while there is none."""
        try:
            found: dict[str, Any] = self.api.get(f"/api/sagas/{order_id}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return None
        return found

    def in_state(self, order_id: str, state: str) -> dict[str, Any] | None:
        """The saga of an order once it is in `state`; PromiseBroken when it ended in another."""
        found = self.saga(order_id)
        if found is None or found["state"] == state:
            return found
        if found["final"]:
            raise PromiseBroken(f"the order was to become {state}, but it is {found['state']}")
        return None


@contextmanager
def stage(
    lab_dir: Path | None,
    environment: dict[str, str],
    *,
    leave: bool,
    say: Callable[[str], None],
    observe: bool = False,
) -> Iterator[Stage]:
    """The running lab, or one that is started with `environment` and ended afterwards; `observe`:
    with Prometheus and Alertmanager.

    An own lab stays up until Ctrl-C unless `leave`; one that ran before is never ended.
    """
    settings = load_settings(lab_dir=lab_dir, lab_observe=observe or None)
    lab = Lab(settings.lab_dir)
    if lab.running():
        target = target_of(lab)
        say(f"On the lab that runs already: {target.url}")
        yield Stage(lab, target)
        return
    say("Starting a real Kafka broker, a real PostgreSQL and every role as its own process")
    started = time.monotonic()
    lab = Lab.up(
        make_plan(settings, environment=environment),
        detach=False,
        report=lambda line: say(f"   {line}"),
    )
    try:
        target = target_of(lab)
        say(f"All ready after {time.monotonic() - started:.1f} s: {target.url}")
        yield Stage(lab, target)
        if not leave:
            stay(lab, target, say)
    finally:
        say("stopping everything")
        lab.down()


def interrupt(_number: int, _frame: object) -> None:
    """End like Ctrl-C: the handler of SIGTERM."""
    raise KeyboardInterrupt


def stay(lab: Lab, target: Target, say: Callable[[str], None]) -> None:
    """Leave the lab up until Ctrl-C or SIGTERM."""
    say(f"\nWatch orders and their sagas live: {target.url}")
    say("Ctrl-C stops everything")
    try:
        while lab.running():
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("")
