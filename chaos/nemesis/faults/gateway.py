"""Faults `gateway_*`: the payment provider misbehaves, by its own control API."""

from __future__ import annotations

import json
import time
import urllib.error
from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from chaos.gateway_sim.provider import DECLINED_AMOUNT_ENDING
from chaos.nemesis import http
from chaos.nemesis.faults.fault import Fault, Run, Unproved, seen
from chaos.nemesis.world import World

TARGET = "gateway"
ANSWER_S = 3.0
USUAL = (
    "mode",
    "decline_rate",
    "error_rate",
    "reply_lost_rate",
    "latency_ms_min",
    "latency_ms_max",
)


class GatewayFault(Fault):
    """The gateway behaves otherwise than usual for a while."""

    aims = "gateway"
    for_s = 10.0
    recovers_from = "end"
    change: ClassVar[Mapping[str, Any]]

    def targets(self, world: World) -> list[str]:
        return [TARGET]

    def start(self, run: Run) -> None:
        url = f"{run.world.gateway_url}/v1/mode"
        before = http.ask("GET", url)
        behaviour = {name: before[name] for name in USUAL}
        run.undo("gateway", url=run.world.gateway_url, behaviour=behaviour)
        run.notes["size"] = run.world.gateway_ledger.stat().st_size
        http.ask("PUT", url, dict(self.changed(run)))

    def changed(self, run: Run) -> Mapping[str, Any]:
        """The settings while it lasts."""
        return {**self.change, **run.params}


class LedgerFault(GatewayFault):
    """A misbehaviour that a line of the gateway's own ledger shows."""

    def prove(self, run: Run) -> str:
        line = seen("an attempt that met it", lambda: self._met(run), 15)
        return f"{line['op']} of order {line['order_id']}: {line['outcome']}, {line['replied']=}"

    def _met(self, run: Run) -> dict[str, Any] | None:
        return next((line for line in lines(run) if self.shows(line)), None)

    @abstractmethod
    def shows(self, line: Mapping[str, Any]) -> bool:
        """Whether a line of the gateway's ledger shows the misbehaviour."""


class GatewayDecline(LedgerFault):
    """Every new charge is declined."""

    name = "gateway_decline"
    change = MappingProxyType({"mode": "DECLINE"})

    def shows(self, line: Mapping[str, Any]) -> bool:
        usually = line["amount_minor"] % 100 == DECLINED_AMOUNT_ENDING
        return bool(line["op"] == "charge" and line["outcome"] == "declined" and not usually)


class GatewayReplyLost(LedgerFault):
    """Charges are made, and the replies that say so never leave."""

    name = "gateway_reply_lost"
    change = MappingProxyType({"reply_lost_rate": 1.0})

    def shows(self, line: Mapping[str, Any]) -> bool:
        return bool(line["outcome"] == "ok" and not line["replied"])


class GatewayError(GatewayFault):
    """Every request is answered with 500."""

    name = "gateway_error"
    change = MappingProxyType({"mode": "ERROR"})

    def prove(self, run: Run) -> str:
        status, took_s = attempt(run)
        if status != 500:
            raise Unproved(f"the gateway answered {status}")
        return f"status 500 after {took_s:.3f} s"


class GatewayTimeout(GatewayFault):
    """No request is answered."""

    name = "gateway_timeout"
    change = MappingProxyType({"mode": "TIMEOUT"})

    def prove(self, run: Run) -> str:
        status, took_s = attempt(run)
        if status is not None:
            raise Unproved(f"the gateway answered {status}")
        return f"no answer within {took_s:.1f} s"


class GatewayLatency(GatewayFault):
    """Every answer takes long."""

    name = "gateway_latency"
    change = MappingProxyType({})
    params: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"latency_ms_min": 500.0, "latency_ms_max": 1500.0}
    )

    def prove(self, run: Run) -> str:
        status, took_s = attempt(run)
        if took_s < float(run.params["latency_ms_min"]) / 1000:
            raise Unproved(f"status {status} after {took_s:.3f} s")
        return f"status {status} after {took_s:.3f} s"


def lines(run: Run) -> list[dict[str, Any]]:
    """What the gateway has recorded since the fault began."""
    with run.world.gateway_ledger.open("rb") as file:
        file.seek(run.notes.get("size", 0))
        complete = file.read().rpartition(b"\n")[0]
    return [json.loads(line) for line in complete.splitlines()]


def attempt(run: Run) -> tuple[int | None, float]:
    """Repeat a charge that was made before, which changes nothing: status (None: no answer), time.

    Raises Unproved when nothing was ever charged.
    """
    made = None
    with run.world.gateway_ledger.open() as file:
        for text in file:
            line = json.loads(text) if text.endswith("\n") else {}
            if line.get("op") == "charge" and line["outcome"] == "ok":
                made = line
    if made is None:
        raise Unproved("no charge was ever made: let orders flow first")
    body = {name: made[name] for name in ("order_id", "amount_minor", "currency")}
    began = time.monotonic()
    status: int | None
    try:
        http.ask(
            "POST",
            f"{run.world.gateway_url}/v1/charges",
            body,
            timeout_s=ANSWER_S,
            headers={"Idempotency-Key": made["idempotency_key"]},
        )
        status = 200
    except urllib.error.HTTPError as error:
        status = error.code
    except OSError:
        status = None
    return status, time.monotonic() - began
