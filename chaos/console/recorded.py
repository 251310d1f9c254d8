"""Orders placed by hand, written down like those of a load, so that an audit examines them too."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Any

import msgspec

from chaos.console.api import Api, ApiError
from chaos.workload.ledger import LedgerFile, Line
from chaos.workload.target import Target

CONSOLE_LEDGER = "console.jsonl"


def place_recorded(target: Target, body: dict[str, Any], key: str) -> dict[str, Any]:
    """Place an order under `key` and return the reply; raises ApiError.

    The request stands in a ledger of the lab before it is sent, its outcome after.
    """
    sent = Line(op=f"console-{token_hex(8)}", kind="create", outcome="sent", expected="",
                idempotency_key=key, intended_s=time.time(), sent_s=time.time())  # fmt: skip
    with LedgerFile(target.ledger_dir / CONSOLE_LEDGER) as ledger:
        ledger.append(sent)
        try:
            reply: dict[str, Any] = Api(target.url).post(
                "/api/orders", body, {"Idempotency-Key": key}
            )
        except ApiError as error:
            outcome = "fail" if 400 <= error.status < 500 else "unknown"
            ledger.append(_returned(sent, outcome, status=error.status, detail=error.detail))
            raise
        ledger.append(_returned(sent, "ok", order_id=reply["orderId"]))
    return reply


def _returned(sent: Line, outcome: str, **fields: Any) -> Line:
    return msgspec.structs.replace(sent, outcome=outcome, returned_s=time.time(), **fields)
