"""Killing workers while orders flow, through the nemesis: proved, timed, and in its ledger."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import NamedTuple

from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis.engine import Action, Injection, Nemesis


class Victim(NamedTuple):
    """A process to kill, and why that is worth seeing."""

    name: str
    why: str


VICTIMS = (
    Victim("orchestrator-1", "it decides every saga, and must resume them all"),
    Victim("payment-1", "it may die having charged a card; nobody may pay twice"),
    Victim("relay-1", "it carries accepted orders to Kafka; none may be lost"),
)


class Kill(NamedTuple):
    """One kill and what came of it; `problem` is empty when it is proved and work went on."""

    name: str
    evidence: str = ""
    effect_s: float = 0.0
    problem: str = ""


class Assassin:
    """Kills victims at given times, beside the load; `results` waits for their successors.

    `call_off` makes kills that are still to come not happen, and `results` return soon.
    """

    def __init__(self, lab: Lab, tell: Callable[[str], None]) -> None:
        self._nemesis, self._tell = Nemesis(lab), tell
        self._pool = ThreadPoolExecutor(len(VICTIMS), thread_name_prefix="kill")
        self._pending: list[Future[Kill]] = []
        self._called_off = Event()

    def schedule(self, over_s: float) -> None:
        """Kill the victims at even distances inside the next `over_s` seconds.

        The last two distances stay free: a recovery needs orders that come after the kill.
        """
        for number, victim in enumerate(VICTIMS, start=1):
            delay_s = over_s * number / (len(VICTIMS) + 2)
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
        self._tell(f"kill -9 {victim.name}: {victim.why}")
        try:
            done = self._nemesis.run(Action("kill", victim.name), self._called_off)
        except LabError as error:
            return Kill(victim.name, problem=error.detail)
        kill = judged(victim.name, done)
        if not kill.problem:
            self._tell(f"{victim.name} works again, {kill.effect_s:.1f} s after its kill")
        return kill


def judged(name: str, done: Injection) -> Kill:
    """What became of a kill."""
    if not done.proved:
        return Kill(name, problem=done.detail)
    if done.recovered_s is None:
        return Kill(name, done.detail, problem="no new effect was seen after its return")
    return Kill(name, done.detail, done.recovered_s)
