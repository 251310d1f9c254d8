"""Nobody goes around the delivery core: what Faust offers for sending, storing and scheduling is
used in app/delivery only, because it acknowledges, sends or writes outside the step."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "agents", "tables", "web", "chaos")
EXEMPT = {
    "app/delivery/": "the core itself",
    "chaos/ledger/stock.py": "the stock control that loses messages on purpose",
}
# `send` is a common word; these receivers are not Faust's.
SENDERS = {"draft", "client", "keeper"}
METHODS = {
    "send_soon": "sends without an acknowledgement",
    "send_nowait": "sends without an acknowledgement",
    "cast": "sends outside the step",
    "ask": "sends outside the step",
    "timer": "due work is a tick of the core",
    "crontab": "due work is a tick of the core",
    "agent": "agents are declared by consume()",
    "stream": "streams are read by the core",
    "Table": "tables are declared by declare_table()",
    "GlobalTable": "tables are declared by declare_table()",
    "SetTable": "tables are declared by declare_table()",
}
KEYWORDS = {
    "sink": "results leave as outputs of the step",
    "sinks": "results leave as outputs of the step",
    "concurrency": "breaks the order of offsets",
    "exactly_once": "the core gives effects once",
    "processing_guarantee": "the core gives effects once",
    "stream_publish_on_commit": "loses what was not committed",
}
# The laboratory is no worker: what it calls a table is one that it prints.
WITHOUT_TABLES = "chaos/"
_TABLE = re.compile(r"(^|[_.])table$")


def violations(source: str) -> Iterator[str]:
    """What a module does that only the delivery core may do."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="send", value=receiver)):
                if ast.unparse(receiver) not in SENDERS:
                    yield f"{node.lineno}: {ast.unparse(receiver)}.send"
            case ast.Attribute(attr=name, value=receiver) if name in METHODS and _is_application(
                receiver, name
            ):
                yield f"{node.lineno}: {ast.unparse(node)}: {METHODS[name]}"
            case ast.keyword(arg=str(name)) if name in KEYWORDS:
                yield f"{node.lineno}: {name}=: {KEYWORDS[name]}"
            case ast.Attribute(attr=name) if name in KEYWORDS and name not in ("sink", "sinks"):
                yield f"{node.lineno}: {ast.unparse(node)}: {KEYWORDS[name]}"
            case ast.Subscript(value=container, ctx=ast.Store() | ast.Del()):
                if _TABLE.search(ast.unparse(container)):
                    yield f"{node.lineno}: writes {ast.unparse(node)}"


def _is_application(receiver: ast.expr, name: str) -> bool:
    """Whether a method is meant to be Faust's: words of ours need an application before them."""
    last = ast.unparse(receiver).rpartition(".")[2]
    if name in ("send_soon", "send_nowait", "GlobalTable", "SetTable"):
        return True
    if name in ("cast", "ask"):
        return last.endswith("agent")
    return last in ("app", "_app", "application", "faust")


def modules() -> Iterator[tuple[str, Path]]:
    """Modules under the rule, by path relative to the project."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not any(name == exempt or name.startswith(exempt) for exempt in EXEMPT):
                yield name, path


def test_only_the_core_sends_stores_and_schedules() -> None:
    """No module outside app/delivery uses what would go around the step."""
    names = [name for name, _ in modules()]
    assert "agents/orchestrator.py" in names
    assert len(names) > 50
    found = [
        f"{name}:{what}"
        for name, path in modules()
        for what in violations(path.read_text())
        if not (": writes " in what and name.startswith(WITHOUT_TABLES))
    ]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "await topic.send(value=1)",
        "await self._results.send(key=b'k', value=b'v')",
        "topic.send_soon(value=1)",
        "self._channel.send_soon(value=1)",
        "await payment_agent.cast(1)",
        "await self.payment_agent.ask(1)",
        "@app.timer(1.0)\nasync def due(): ...",
        "@app.crontab('* * * * *')\nasync def due(): ...",
        "@app.agent(topic)\nasync def agent(stream): ...",
        "app.agent(topic, name='payment')(run)",
        "self._app.stream(channel)",
        "table = app.Table('sagas')",
        "table = app.GlobalTable('sagas')",
        "make(sink=[topic])",
        "make(concurrency=4)",
        "faust.App('x', processing_guarantee='exactly_once')",
        "app.conf.stream_publish_on_commit = True",
        "dict(exactly_once=True)",
        "table[key] = value",
        "self._saga_table[key] = value",
        "sagas.table[key] += 1",
        "del table[key]",
    ],
)
def test_a_planted_violation_is_found(planted: str) -> None:
    """Each way around the core is seen by the rule."""
    assert list(violations(planted)) != []


@pytest.mark.parametrize(
    "innocent",
    [
        "draft.send(saga, 1)",
        "producer.produce(topic, value)",
        "saga.timer + 1",
        "counts[table] = 1",
        "value = table[key]",
        "table_get(table, 0, key)",
        "typing.cast(int, 1)",
        "Table('orders', metadata)",
        "gateway_concurrency_max = 4",
    ],
)
def test_words_of_ours_are_not_confused(innocent: str) -> None:
    """The rule names ways around the core, not words."""
    assert list(violations(innocent)) == []


def test_every_exemption_exists() -> None:
    """An exemption for what is gone would hide its successor."""
    assert all((ROOT / name).exists() for name in EXEMPT)


def test_the_stock_control_would_be_found() -> None:
    """The rule sees real Faust code when it is not exempt."""
    assert list(violations((ROOT / "chaos/ledger/stock.py").read_text())) != []
