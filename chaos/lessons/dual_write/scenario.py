"""The two scenarios on a running lab: place orders, break one of the two writes, read the books."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex

from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.lessons.dual_write.findings import Mode, Placed, Run, Scenario
from chaos.lessons.dual_write.reconcile import ids, read_books
from chaos.workload.target import target_of

ORDERS = 5
HTTP_TIMEOUT_S = 20.0
DRAIN_S = 60.0
LOOK_S = 0.1
#: What role web is started with; the outbox needs nothing.
PLUGIN = {
    (Scenario.LOST, Mode.DUAL_WRITE): "chaos.naive.dual_write_after_commit",
    (Scenario.LOST, Mode.DUAL_WRITE_RAISE): "chaos.naive.dual_write_raising",
    (Scenario.PHANTOM, Mode.DUAL_WRITE): "chaos.naive.dual_write_before_commit",
    (Scenario.PHANTOM, Mode.DUAL_WRITE_RAISE): "chaos.naive.dual_write_before_commit",
}
INJECTOR = "chaos.injector"
ROLLBACK, CRASH = "web.before_commit=error:definite", "web.before_commit=crash"


class Teacher:
    """Plays one scenario on `lab` and tells its steps by `tell`.

    Role web is started anew for it; what the lab held before does not count. No other orders may
    come in meanwhile.
    """

    def __init__(
        self, lab: Lab, scenario: Scenario, mode: Mode, tell: Callable[[str], None]
    ) -> None:
        self._lab, self._scenario, self._mode, self._tell = lab, scenario, mode, tell
        self._target = target_of(lab)
        self._began_s = time.monotonic()
        self._timeline: list[tuple[float, str]] = []
        self._placed: list[Placed] = []

    def play(self) -> Run:
        """Before, fault, after, then the books. Raises LabError when the lab refuses."""
        self._start_web("")
        self._say(f"role web is started in mode {self._mode}")
        earlier = read_books(self._target)
        self._place("before", ORDERS)
        if self._scenario is Scenario.LOST:
            self._lose()
        else:
            self._conjure()
        self._place("after", ORDERS)
        self._wait_drained()
        books = read_books(self._target).without(earlier)
        self._say(
            f"database and topic compared by order id: {len(books.lost)} lost,"
            f" {len(books.phantom)} phantom"
        )
        return Run(self._scenario, self._mode, self._placed, books, self._timeline)

    def _lose(self) -> None:
        """The broker is away between the two writes."""
        pid = self._lab.stop("broker", grace_s=0)["pid"]
        self._say(f"the broker is killed (pid {pid}); PostgreSQL goes on")
        self._place("during", ORDERS)
        self._lab.start("broker")
        read_books(self._target)
        self._say("the broker is back, and the books can be read")

    def _conjure(self) -> None:
        """The transaction is rolled back, or its process dies, between the two writes."""
        self._start_web(ROLLBACK)
        self._say("role web rolls every transaction back at its last moment")
        self._place("during", ORDERS)
        self._start_web(CRASH)
        self._say("role web dies at the last moment of its next transaction")
        pid = int(self._lab.process("web-1")["pid"])
        self._place("during", 1)
        self._lab.wait_restarted("web-1", pid, DRAIN_S)
        self._wait_listening()
        self._say("role web is back, with nothing armed and with its outbox")

    def _start_web(self, rules: str) -> None:
        """Start role web anew in the lesson's mode with `rules` armed, for this one life."""
        plugins = filter(None, (INJECTOR, PLUGIN.get((self._scenario, self._mode), "")))
        self._lab.restart(
            "web-1",
            environment={"SYMPHONY_PLUGINS": ",".join(plugins), "SYMPHONY_FAILPOINTS": rules},
        )
        self._wait_listening()

    def _wait_listening(self) -> None:
        """Return once role web answers: it is ready a moment before it listens. Raises LabError."""
        deadline = time.monotonic() + DRAIN_S
        while True:
            try:
                with urllib.request.urlopen(f"{self._target.url}/livez", timeout=HTTP_TIMEOUT_S):  # noqa: S310
                    return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LabError(f"role web does not answer: {error}") from None
            time.sleep(LOOK_S)

    def _place(self, phase: str, count: int) -> None:
        with ThreadPoolExecutor(count) as pool:
            placed = list(pool.map(lambda _: self._ask(phase), range(count)))
        self._placed += placed
        answers: dict[str, int] = {}
        for one in placed:
            name = str(one.status) if one.status else "no answer"
            answers[name] = answers.get(name, 0) + 1
        told = ", ".join(f"{number} x {answer}" for answer, number in sorted(answers.items()))
        self._say(f"{count} orders placed: {told}")

    def _ask(self, phase: str) -> Placed:
        request = urllib.request.Request(  # noqa: S310 (the lab's own API)
            f"{self._target.url}/api/orders",
            json.dumps({"customerId": "pupil", "total": "12.50", "currency": "EUR"}).encode(),
            {"Content-Type": "application/json", "Idempotency-Key": token_hex(8)},
        )
        try:
            with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as reply:  # noqa: S310
                return Placed(phase, reply.status, str(json.load(reply)["orderId"]))
        except urllib.error.HTTPError as error:
            with error:
                return Placed(phase, error.code, "")
        except OSError:
            return Placed(phase, 0, "")

    def _wait_drained(self) -> None:
        """Nothing waits in the outbox, and what was placed last is in the topic. Raises LabError.

        Then whatever is missing will never come: nobody holds it any more.
        """
        deadline = time.monotonic() + DRAIN_S
        last = {one.order_id for one in self._placed if one.phase == "after"}
        while True:
            waiting = ids(self._target, "select count(*) from ops.outbox")[0]
            missing = last - read_books(self._target).published
            if waiting == "0" and not missing:
                self._say("the outbox is empty, the last orders are in the topic")
                return
            if time.monotonic() > deadline:
                raise LabError(
                    f"{waiting} events wait in the outbox, {len(missing)} orders placed after the"
                    f" fault are not in the topic {DRAIN_S:g} s later"
                )
            time.sleep(LOOK_S)

    def _say(self, what: str) -> None:
        self._timeline.append((time.monotonic() - self._began_s, what))
        self._tell(what)
