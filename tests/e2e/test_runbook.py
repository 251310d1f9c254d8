"""Every command of the runbook is run, in the situation that its entry is about."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

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


def parked_order(stage: Stage) -> dict[str, str]:
    """An order whose payment was dead-lettered, while the provider works again."""
    stage.api.put("/api/payments/mode", {"mode": "ERROR"})
    try:
        body = {"customerId": "runbook", "total": "15.00", "currency": "EUR"}
        order_id = place_recorded(stage.target, body, f"runbook-{token_hex(8)}")["orderId"]
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


#: Entries whose commands need something to act upon, and what provides it.
SITUATIONS: dict[str, Callable[[Stage], dict[str, str]]] = {
    "Dead letters are rising": parked_order,
    "Records cannot be read": parked_order,
    "A saga is stuck, or PARKED": parked_order,
    "The payment provider fails": parked_order,
}
#: What a command may answer besides 0: an audit of a quiet lab is not sure of everything.
ANSWERS = {"audit": (0, 2)}


@pytest.mark.parametrize("title", entries())
def test_the_commands_of_an_entry_work(story_stage: Stage, title: str) -> None:
    """Each ends as it should when the entry's situation is there."""
    names = SITUATIONS.get(title, lambda _: {})(story_stage)
    for command in entries()[title]:
        words = [names.get(word, word) for word in shlex.split(command)]
        done = symphony(story_stage, *words)
        allowed = ANSWERS.get(words[0], (0,))
        assert done.returncode in allowed, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        assert done.stdout.strip(), f"{command} says nothing"


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
    """No situation is left of an entry that was renamed."""
    assert SITUATIONS.keys() <= entries().keys()
