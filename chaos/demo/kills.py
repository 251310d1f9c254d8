"""Killing workers while orders flow, with proof: the old process is gone, a new one works.

A kill counts only when the old pid has vanished, another pid is ready in its place, and a first new
effect of the role after the kill stands in PostgreSQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from threading import Event
from typing import NamedTuple

import psutil
import psycopg2

from chaos.lab.client import Lab
from chaos.lab.process import LabError

GONE_TIMEOUT_S = 5.0
RECOVERY_TIMEOUT_S = 45.0
LOOK_S = 0.1


class Victim(NamedTuple):
    """A process to kill, why that is worth seeing, and the SQL of its first effect after it.

    The statement takes one parameter, the time of the kill, and returns the time of the effect.
    """

    name: str
    why: str
    first_effect: str


_FIRST_INBOX = "select min(at) from ops.inbox where consumer = '{}' and at > to_timestamp(%s)"
VICTIMS = (
    Victim(
        "orchestrator-1",
        "it decides every saga, and must resume them all",
        _FIRST_INBOX.format("orchestrator"),
    ),
    Victim(
        "payment-1",
        "it may die having charged a card; nobody may pay twice",
        _FIRST_INBOX.format("payment"),
    ),
    Victim(
        "relay-1",
        "it carries accepted orders to Kafka; none may be lost",
        "select min(h.at) from orders.order_history h join orders.orders o using (order_id)"
        " where h.event = 'created' and o.created_at > to_timestamp(%s)",
    ),
)


class Kill(NamedTuple):
    """One kill and what came of it; `problem` is empty when it is proved.

    `ready_s` and `effect_s` count from the kill: until the successor was ready, until its first new
    effect was durable.
    """

    name: str
    old_pid: int = 0
    new_pid: int = 0
    ready_s: float = 0.0
    effect_s: float = 0.0
    problem: str = ""


class Assassin:
    """Kills victims at given times, beside the load; `results` waits for their successors.

    `call_off` makes kills that are still to come not happen, and `results` return soon.
    """

    def __init__(self, lab: Lab, dsn: str, tell: Callable[[str], None]) -> None:
        self._lab, self._dsn, self._tell = lab, dsn, tell
        self._pool = ThreadPoolExecutor(len(VICTIMS), thread_name_prefix="kill")
        self._pending: list[Future[Kill]] = []
        self._called_off = Event()

    def schedule(self, over_s: float, victims: Sequence[Victim] = VICTIMS) -> None:
        """Kill the victims at even distances inside the next `over_s` seconds."""
        for number, victim in enumerate(victims, start=1):
            delay_s = over_s * number / (len(victims) + 1)
            self._pending.append(self._pool.submit(self._kill_after, victim, delay_s))

    def results(self) -> list[Kill]:
        """Return every kill, in the order of scheduling, once its recovery is known or hopeless."""
        kills = [future.result() for future in self._pending]
        self._pool.shutdown()
        return kills

    def call_off(self) -> None:
        """Kill nobody any more."""
        self._called_off.set()

    def _kill_after(self, victim: Victim, delay_s: float) -> Kill:
        if self._called_off.wait(delay_s):
            return Kill(victim.name, problem="called off")
        try:
            return self._kill(victim)
        except (LabError, psycopg2.Error) as error:
            return Kill(victim.name, problem=" ".join(str(error).split()))

    def _kill(self, victim: Victim) -> Kill:
        killed_at, started = time.time(), time.monotonic()
        old_pid = self._lab.kill(victim.name, "KILL")
        self._tell(f"kill -9 {victim.name} (pid {old_pid}): {victim.why}")
        if not _gone(old_pid, GONE_TIMEOUT_S):
            return Kill(victim.name, old_pid, problem=f"pid {old_pid} still lives")
        row = self._lab.wait_restarted(victim.name, old_pid, RECOVERY_TIMEOUT_S)
        ready_s = time.monotonic() - started
        self._tell(f"{victim.name} is back as pid {row['pid']}, ready after {ready_s:.1f} s")
        effect_s = self._first_effect_s(victim, killed_at)
        problem = "" if effect_s else "no new effect was seen after its return"
        return Kill(victim.name, old_pid, int(row["pid"]), ready_s, effect_s, problem)

    def _first_effect_s(self, victim: Victim, killed_at: float) -> float:
        """Seconds from the kill to the first new effect, 0 when none came in time."""
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        with closing(psycopg2.connect(self._dsn)) as connection:
            connection.set_session(readonly=True, autocommit=True)
            while time.monotonic() < deadline and not self._called_off.is_set():
                with connection.cursor() as cursor:
                    cursor.execute(victim.first_effect, (killed_at,))
                    row: tuple[datetime | None] | None = cursor.fetchone()
                if row is not None and row[0] is not None:
                    return max(0.001, row[0].timestamp() - killed_at)
                time.sleep(LOOK_S)
        return 0.0


def _gone(pid: int, timeout_s: float) -> bool:
    """Whether a process has ended (a zombie has) within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S / 4)
