"""What can be asked of a running supervisor: by the command line, the nemesis, demo and tests.

Every call names parts as `symphony status` does (`payment-1`, `broker`, `postgres`, `gateway-sim`).
A call that ends or starts something returns the part's row with the pid it acted on.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chaos.lab.control import Call
from chaos.lab.keeper import Keeper, State
from chaos.lab.parts import StopMode, WorkerPart
from chaos.lab.process import LabError

if TYPE_CHECKING:
    from chaos.lab.supervisor import Supervisor

SERVER_GRACE_S = 20.0


class Calls:
    """The calls of one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._lab = supervisor

    def table(self) -> Mapping[str, Call]:
        """All calls by name."""
        calls: tuple[Call, ...] = (
            self.status,
            self.kill,
            self.stop,
            self.start,
            self.restart,
            self.scale,
            self.down,
        )
        return {call.__name__: call for call in calls}

    async def status(self, delivery: bool = False) -> dict[str, Any]:
        """Addresses and processes; with `delivery` each worker's own status document."""
        lab = self._lab
        at = lab.addresses
        rows = await asyncio.gather(*(_row(k, delivery) for k in lab.keepers.values()))
        return {
            "state": lab.state,
            "problems": list(lab.problems.values()),
            "lab_dir": str(lab.files.root),
            "supervisor": {"pid": os.getpid(), "log": str(lab.files.supervisor_log)},
            "broker": {"kind": lab.plan.broker_kind, "bootstrap": at.bootstrap},
            "postgres": {"kind": lab.plan.postgres_kind, "dsn": at.dsn},
            "web": {"url": at.web_url},
            "gateway": {"url": at.gateway_url, "ledger": str(lab.files.gateway_ledger)},
            "proxy": lab.proxy.document() if lab.proxy is not None else None,
            "observe": _observe(lab),
            "processes": list(rows),
        }

    async def kill(self, name: str, signal_name: str = "KILL") -> dict[str, Any]:
        """Send a signal; a process that ends of it is started again like after any other end.

        STOP freezes and CONT wakes: the supervisor leaves a frozen process alone.
        """
        keeper = self._keeper(name)
        try:
            number = signal.Signals[f"SIG{signal_name.upper().removeprefix('SIG')}"]
        except KeyError:
            raise LabError(f"unknown signal {signal_name!r}") from None
        pid = keeper.send(number)
        return {**await _row(keeper, False), "pid": pid}

    async def stop(
        self, name: str, mode: StopMode = "fast", grace_s: float | None = None
    ) -> dict[str, Any]:
        """End a part and keep it ended; `mode` immediate is for PostgreSQL."""
        keeper = self._keeper(name)
        async with keeper.turn:
            pid = keeper.part.pid
            await keeper.stop(self._grace_s(keeper, grace_s), mode)
        return {**await _row(keeper, False), "pid": pid}

    async def start(
        self, name: str, environment: Mapping[str, str] | None = None, wait: bool = True
    ) -> dict[str, Any]:
        """Start a stopped part; `environment` is added for this one start of a worker."""
        keeper = self._keeper(name)
        async with keeper.turn:
            self._start(keeper, environment)
        return await self._started(keeper, wait)

    async def restart(
        self,
        name: str,
        mode: StopMode = "fast",
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> dict[str, Any]:
        """Stop and start a part."""
        keeper = self._keeper(name)
        async with keeper.turn:
            await keeper.stop(self._grace_s(keeper, None), mode)
            self._start(keeper, environment)
        return await self._started(keeper, wait)

    async def scale(self, role: str, count: int, wait: bool = True) -> list[dict[str, Any]]:
        """Have `count` workers of a role; the highest numbers go first. The role's rows."""
        lab = self._lab
        lab.plan.check_workers(role, count)
        wanted = []
        for number in range(1, count + 1):
            keeper = lab.keepers.get(f"{role}-{number}") or lab.add_worker(role, number)
            wanted.append(keeper)
        surplus = [k for k in lab.worker_keepers if k.part.role == role and k not in wanted]
        await asyncio.gather(
            *(self._want(keeper) for keeper in wanted), *(self._spare(keeper) for keeper in surplus)
        )
        if wait:
            await asyncio.gather(*(keeper.wait_ready() for keeper in wanted))
        return [await _row(keeper, False) for keeper in (*wanted, *surplus)]

    async def _want(self, keeper: Keeper) -> None:
        async with keeper.turn:
            self._lab.spared.discard(keeper.name)
            keeper.start()

    async def _spare(self, keeper: Keeper) -> None:
        async with keeper.turn:
            self._lab.spared.add(keeper.name)
            await keeper.stop(self._lab.plan.stop_grace_s)

    @staticmethod
    async def _started(keeper: Keeper, wait: bool) -> dict[str, Any]:
        if wait:
            await keeper.wait_ready()
        return await _row(keeper, False)

    async def down(self) -> dict[str, Any]:
        """Begin to end the lab; the supervisor's process ends when all is down."""
        self._lab.request_stop()
        return {"pid": os.getpid()}

    def _keeper(self, name: str) -> Keeper:
        lab = self._lab
        if lab.state is State.STOPPING:
            raise LabError("the lab is going down")
        if name not in lab.keepers:
            raise LabError(f"there is no {name!r} here; there are: {', '.join(lab.keepers)}")
        return lab.keepers[name]

    def _start(self, keeper: Keeper, environment: Mapping[str, str] | None) -> None:
        if environment:
            if not isinstance(keeper.part, WorkerPart):
                raise LabError(f"{keeper.name} is no worker: it takes no environment")
            keeper.part.next_environment = dict(environment)
        keeper.start()

    def _grace_s(self, keeper: Keeper, given_s: float | None) -> float:
        if given_s is not None:
            return given_s
        worker = isinstance(keeper.part, WorkerPart)
        return self._lab.plan.stop_grace_s if worker else SERVER_GRACE_S


def _observe(lab: Supervisor) -> dict[str, Any] | None:
    """Where Prometheus and Alertmanager answer; None in a lab without them."""
    observe = lab.plan.observe
    if observe is None or lab.prometheus is None or lab.alertmanager is None:
        return None
    return {
        "prometheus": {"url": lab.prometheus.url},
        "alertmanager": {"url": lab.alertmanager.url},
        "targets": str(lab.files.targets),
        "interval_s": observe.scrape_interval_s,
    }


async def _row(keeper: Keeper, delivery: bool) -> dict[str, Any]:
    """One process as status prints it."""
    part = keeper.part
    row: dict[str, Any] = {
        "name": keeper.name,
        "role": part.role,
        "pid": part.pid,
        "state": keeper.state,
        "restarts": keeper.restarts,
        "reason": keeper.reason,
        "last_exit": keeper.last_exit,
        "log": str(part.log),
    }
    if isinstance(part, WorkerPart):
        row["incarnation"] = part.incarnation
        if delivery and keeper.state is not State.PAUSED and part.pid is not None:
            document = row["delivery"] = await part.status()
            if document is not None and keeper.state is State.READY and not document.get("ready"):
                row["reason"] = document.get("waiting_for") or "not ready now"
    return row
