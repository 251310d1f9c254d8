"""Demo 2, failure and recovery: the payment provider fails, an order is dead-lettered and parked;
the provider is mended, everything is replayed, the order completes, and is charged once."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from chaos.console.api import ApiError
from chaos.console.recorded import place_recorded
from chaos.demo.script import Script, Stage

TOPIC = "payment.requested.dlt"
PARKED_S = 180.0
REPLAYED_S = 60.0
ENVIRONMENT = {"SYMPHONY_RETRY_TIERS_S": "1,5", "SYMPHONY_RETRY_ATTEMPTS_MAX": "3"}
"""An own lab of the demo: two retries, after one second and after five."""


def play(stage: Stage, script: Script) -> None:
    """Break the payment, see the order park, mend it, replay, see it complete. PromiseBroken."""
    api = stage.api
    script.scene("The payment provider fails: every charge is answered with 500")
    _set_mode(stage, "ERROR")
    try:
        script.promise("the mode is ERROR", api.get("/api/payments/mode")["mode"] == "ERROR")
        order_id = _fail_an_order(stage, script)
        letter = _find_letter(stage, script, order_id)
    finally:
        _set_mode(stage, "SUCCESS")

    script.scene("The provider is mended: replay all")
    script.promise("the mode is SUCCESS", api.get("/api/payments/mode")["mode"] == "SUCCESS")
    count_before = _open(stage)
    job = _replay(stage, script)
    script.promise("the replay is done", job["status"] == "DONE", job)
    script.promise("it sent what was open", job["done"] == count_before, job)
    saga = script.wait(
        "the order completes", lambda: stage.in_state(order_id, "COMPLETED"), REPLAYED_S
    )
    for entry in saga["history"]:
        script.tell(f"{entry['at'][11:23]}  {entry['event']:<18}  {entry['status']}"
                    f"  {entry['reason']}")  # fmt: skip
    status = api.get(f"/api/dlq/letters/{letter['id']}")["status"]
    script.promise("its dead letter is settled", status == "REDRIVEN", status)
    script.promise("no dead letter is open", _open(stage) == 0, _open(stage))

    script.scene("Replay all once more: nothing happens twice")
    try:
        stage.api.post(f"/api/dlq/{TOPIC}/replay", {"reason": "once more"})
        refused = "it was accepted"
    except ApiError as error:
        refused = error.detail
    script.promise("it is refused: nothing is open", "nothing_open" in refused, refused)


def _fail_an_order(stage: Stage, script: Script) -> str:
    script.scene("Order for 77.00 EUR, and see it retried, dead-lettered and parked")
    body = {"customerId": "ada", "total": "77.00", "currency": "EUR"}
    order_id: str = place_recorded(stage.target, body, f"demo-{token_hex(8)}")["orderId"]
    script.tell(f"POST /api/orders: order {order_id}")
    saga = script.wait("the order parks", lambda: stage.in_state(order_id, "PARKED"), PARKED_S)
    retries = [entry for entry in saga["history"] if entry["event"] == "retrying"]
    for entry in saga["history"]:
        script.tell(f"{entry['at'][11:23]}  {entry['event']:<18}  {entry['status']}"
                    f"  {entry['reason']}")  # fmt: skip
    script.promise("it was retried before", len(retries) >= 1, saga["history"])
    return order_id


def _find_letter(stage: Stage, script: Script, order_id: str) -> dict[str, Any]:
    script.scene(f"The message lies on {TOPIC}, with its history")

    def look() -> dict[str, Any] | None:
        letters = stage.api.get(f"/api/dlq/{TOPIC}/peek?n=100&status=open")["letters"]
        return next((one for one in letters if one["orderId"] == order_id), None)

    letter = script.wait("it is listed", look, REPLAYED_S)
    for header in letter["headers"]:
        if header["name"].startswith("x-"):
            script.tell(f"{header['name']}: {header['text']}")
    return letter


def _replay(stage: Stage, script: Script) -> dict[str, Any]:
    job = stage.api.post(f"/api/dlq/{TOPIC}/replay", {"reason": "the provider is mended"})

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = stage.api.get(f"/api/dlq/jobs/{job['id']}")
        return None if found["status"] in ("QUEUED", "RUNNING") else found

    return script.wait("the replay ends", look, REPLAYED_S)


def _open(stage: Stage) -> int:
    count: int = stage.api.get(f"/api/dlq/{TOPIC}/count")["open"]
    return count


def _set_mode(stage: Stage, mode: str) -> None:
    stage.api.put("/api/payments/mode", {"mode": mode})
