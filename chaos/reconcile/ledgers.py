"""The two ledgers the platform cannot write: the load generator's and the payment gateway's.

Both are JSON lines. A torn last line (its writer was killed) is left out; any other unreadable line
makes the ledger unreadable, because evidence with holes proves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from chaos.reconcile.evidence import GatewayLine, Request


class UnreadableError(Exception):
    """A source cannot be read; the text says which and why."""


def read_requests(paths: Iterable[Path]) -> list[Request]:
    """Return every request of the load ledgers once, with the last that is known of it.

    Raises UnreadableError for a missing or damaged ledger.
    """
    requests: dict[str, Request] = {}
    for path in paths:
        for number, line in _lines(path):
            try:
                requests[line["op"]] = Request(
                    op=line["op"],
                    kind=line["kind"],
                    outcome="unknown" if line["outcome"] == "sent" else line["outcome"],
                    expected=line["expected"],
                    idempotency_key=line["idempotency_key"],
                    order_id=line["order_id"],
                    detail=line["detail"],
                )
            except (KeyError, TypeError) as error:
                raise UnreadableError(f"{path}:{number}: no {error}") from None
    return list(requests.values())


def read_gateway(path: Path) -> list[GatewayLine]:
    """Return every attempt in the order it was recorded; raises UnreadableError."""
    attempts = []
    for number, line in _lines(path):
        try:
            attempts.append(
                GatewayLine(
                    op=line["op"],
                    order_id=line["order_id"],
                    idempotency_key=line["idempotency_key"],
                    amount_minor=int(line["amount_minor"]),
                    currency=line["currency"],
                    outcome=line["outcome"],
                    replied=bool(line["replied"]),
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableError(f"{path}:{number}: {error!r}") from None
    return attempts


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if raw.endswith(b"\n"):
                    yield number, json.loads(raw)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UnreadableError(f"{path}: {error}") from None
