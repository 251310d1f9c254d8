"""Every command of the runbook is run on a real lab: in the situation that its entry is about where
SITUATIONS has one, else on a healthy lab.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from app.db.seed import UNTRACKED_SKU
from chaos.console.recorded import place_recorded
from chaos.demo.script import Stage
from tests.e2e.commands import symphony
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

RUNBOOK = Path(__file__).parents[2] / "RUNBOOK.md"
ENTRY = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
PREFIX = "$ .venv/bin/symphony "
TOPIC = "payment.requested.dlt"


def entries() -> dict[str, list[str]]:
    """The commands of each entry that has some."""
    found = {}
    for title, text in ENTRY.findall(RUNBOOK.read_text()):
        lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
        assert all(line.startswith(PREFIX) for line in lines), title
        if lines:
            found[title] = [line.removeprefix(PREFIX) for line in lines]
    return found


def place(stage: Stage) -> str:
    """An order that the platform can complete; its id."""
    body = {"customerId": "runbook", "total": "15.00", "currency": "EUR"}
    found: str = place_recorded(stage.target, body, f"runbook-{token_hex(8)}")["orderId"]
    return found


def parked_order(stage: Stage) -> dict[str, str]:
    """An order whose payment was dead-lettered, while the provider works again."""
    stage.api.put("/api/payments/mode", {"mode": "ERROR"})
    try:
        order_id = place(stage)
        wait_until(lambda: stage.in_state(order_id, "PARKED"), timeout_s=120, what="PARKED")
    finally:
        stage.api.put("/api/payments/mode", {"mode": "SUCCESS"})

    def letter() -> Any:
        letters = stage.api.get(f"/api/dlq/{TOPIC}/peek?n=100&status=open")["letters"]
        return next((one["id"] for one in letters if one["orderId"] == order_id), None)

    return {
        "ORDER_ID": order_id,
        "LETTER_ID": wait_until(letter, timeout_s=60, what="the letter is indexed"),
    }


@contextmanager
def parked(stage: Stage) -> Iterator[dict[str, str]]:
    """An order of before waits for an operator, with its dead letter."""
    yield parked_order(stage)


@contextmanager
def lost_event(stage: Stage) -> Iterator[dict[str, str]]:
    """A committed order of which nobody was told and which no outbox row will tell."""
    order_id = str(uuid4())
    with _database(stage) as cursor:
        cursor.execute(
            "insert into orders.orders (order_id, customer_id, total_minor, currency, created_at)"
            " values (%s, 'runbook', 1500, 'EUR', now())",
            [order_id],
        )
        cursor.execute("insert into orders.order_item values (%s, 1, %s, 1, 1500, false)",
                       [order_id, UNTRACKED_SKU])  # fmt: skip
    try:
        yield {"ORDER_ID": order_id}
    finally:
        _take_order(stage, order_id)


@contextmanager
def phantom_event(stage: Stage) -> Iterator[dict[str, str]]:
    """An event, and all that came of it, whose order is not in the database."""
    order_id = place(stage)
    wait_until(lambda: stage.in_state(order_id, "COMPLETED"), timeout_s=120, what="it completes")
    item, order = _take_order(stage, order_id)
    try:
        yield {"ORDER_ID": order_id}
    finally:
        with _database(stage) as cursor:
            cursor.execute("insert into orders.orders values %s", [order])
            cursor.execute("insert into orders.order_item values %s", [item])


def _take_order(stage: Stage, order_id: str) -> tuple[Any, Any]:
    """Delete an order over an amount; its row and that of its one line."""
    with _database(stage) as cursor:
        found = []
        for table in ("order_item", "orders"):
            cursor.execute(
                f"delete from orders.{table} where order_id = %s returning *", [order_id]
            )
            found.append(cursor.fetchone())
    return found[0], found[1]


@contextmanager
def _database(stage: Stage) -> Iterator[Any]:
    with (
        closing(psycopg2.connect(stage.target.dsn)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        yield cursor


@contextmanager
def bad_canary(stage: Stage) -> Iterator[dict[str, str]]:
    """Half of the orders go to a version that declines too often (the lab's payment_variant)."""
    path = "/api/canary/config"
    stage.lab.scale("payment-canary", 1)
    try:
        wait_until(
            lambda: stage.api.get(path)["canaryWorkers"], timeout_s=60, what="it is heard of"
        )
        wait_until(
            lambda: stage.api.put(path, {"percent": 50, "auto": False})["inForce"],
            timeout_s=60,
            what="the share is in force",
        )
        wait_until(
            lambda: (
                place(stage)
                and stage.api.get("/api/canary/comparison?window=5m")["verdict"] == "breached"
            ),
            timeout_s=120,
            what="the canary is seen to do worse",
        )
        yield {}
    finally:
        stage.api.put(path, {"percent": 0})
        stage.lab.scale("payment-canary", 0)


@contextmanager
def no_payment_worker(stage: Stage) -> Iterator[dict[str, str]]:
    """Nobody does the payments' work."""
    stage.lab.scale("payment", 0)
    try:
        yield {}
    finally:
        stage.lab.scale("payment", 1)


@contextmanager
def rule_in_force(stage: Stage) -> Iterator[dict[str, str]]:
    """A chaos rule that strikes nothing, because nothing of its topic comes by."""
    rule = {
        "fault": "delay",
        "scope": {"topic": "shipping.cancel"},
        "ttlS": 300,
        "reason": "runbook",
    }
    stage.api.put("/api/chaos/rules/runbook", rule)
    try:
        yield {}
    finally:
        stage.api.post("/api/chaos/kill", {"reason": "the test is over"})


Situation = Callable[[Stage], AbstractContextManager[dict[str, str]]]
#: What an entry is about, made on the running lab and taken back. Entries without one are run on a
#: healthy lab: that their commands work is all that is shown of them here.
SITUATIONS: dict[str, Situation] = {
    "Dead letters are rising": parked,
    "Records cannot be read": parked,
    "A saga is stuck, or PARKED": parked,
    "The payment provider fails": parked,
    "A role has no worker": no_payment_worker,
    "An event was lost": lost_event,
    "A phantom event": phantom_event,
    "The canary does worse": bad_canary,
    "A chaos rule strikes nothing": rule_in_force,
    "A fault of the laboratory seems to be still on": rule_in_force,
}
#: What a command of an entry must show in its situation, and with which exit code.
SEEN: dict[str, dict[str, tuple[int, str]]] = {
    "An event was lost": {
        "audit": (1, r"X1 violated.*\n +ORDER_ID: its order.created is not in the topic"),
        "order show": (0, "ORDER_ID"),
    },
    "A phantom event": {
        "audit": (1, r"X2 violated.*\n +order.created\[\d\]@\d+: .* was never committed"),
        "saga show": (0, "COMPLETED"),
    },
    "The canary does worse": {
        "canary show": (0, "50 % of the orders go to the canary"),
        "canary compare": (0, "breached: "),
        "canary off": (0, r"(?m)^0 % of the orders go to the canary"),
    },
    "A role has no worker": {
        "status": (0, "payment-1 .*stopped"),
        "scale": (0, "payment-2 .*ready"),
    },
    "A chaos rule strikes nothing": {"chaos status": (0, "runbook")},
    "A fault of the laboratory seems to be still on": {"chaos status": (0, "runbook")},
}


@pytest.mark.parametrize("title", entries())
def test_the_commands_of_an_entry_work(story_stage: Stage, title: str) -> None:
    """Each ends as it should, and shows the entry's situation where there is one."""
    with SITUATIONS.get(title, lambda _: nullcontext({}))(story_stage) as names:
        for command in entries()[title]:
            words = [names.get(word, word) for word in shlex.split(command)]
            done = symphony(story_stage, *words)
            shown = f"{command}\n{done.stdout[-6000:]}{done.stderr[-3000:]}"
            code, text = expected(title, words)
            assert done.returncode == code, shown
            assert re.search(filled(text, names), done.stdout), shown


def expected(title: str, words: list[str]) -> tuple[int, str]:
    """Exit code and text of a command; whatever it is, it says something."""
    told = SEEN.get(title, {})
    return told.get(" ".join(words[:2]), told.get(words[0], (0, r"\S")))


def filled(text: str, names: dict[str, str]) -> str:
    """A pattern with the situation's names in it."""
    for name, value in names.items():
        text = text.replace(name, value)
    return text


def test_a_retried_saga_completes(story_stage: Stage) -> None:
    """What the runbook promises of `saga retry`: the order ends COMPLETED."""
    names = parked_order(story_stage)
    order_id = names["ORDER_ID"]
    assert symphony(story_stage, "saga", "retry", order_id, "--reason", "back").returncode == 0
    done = symphony(story_stage, "saga", "watch", order_id, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["state"] == "COMPLETED"


@pytest.mark.unit
def test_every_situation_is_of_an_entry() -> None:
    """No situation is left of an entry that was renamed, and what is to be seen has one."""
    assert SEEN.keys() <= SITUATIONS.keys() <= entries().keys()
    for title, told in SEEN.items():
        commands = [shlex.split(command) for command in entries()[title]]
        assert told.keys() <= {" ".join(words[:n]) for words in commands for n in (1, 2)}, title
