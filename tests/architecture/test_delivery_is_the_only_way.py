"""What DESIGN bans outside the delivery core is found by reading the syntax trees.

Stock Faust loses messages through each of these: unawaited sends, sinks, concurrent agents,
transactions per commit interval, table writes outside the acknowledged changelog.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "agents", "tables", "web", "chaos")
# The core itself, and the foils that show what happens without it.
ALLOWED = ("app/delivery/", "chaos/ledger/stock", "chaos/naive/")
BANNED_KEYWORDS = {"concurrency", "exactly_once", "stream_publish_on_commit", "sink"}
BANNED_NAMES = {"stream_publish_on_commit", "exactly_once"}
FAUST_SENDS = {"send_soon", "maybe_send", "cast", "ask", "add_sink", "publish_message"}
AGENT_MAKERS = {"agent", "task", "timer", "crontab"}


def product_files() -> Iterator[Path]:
    """Every module that the rule covers."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.relative_to(ROOT).as_posix().startswith(ALLOWED):
                yield path


def violations(source: str) -> list[tuple[int, str]]:
    """Line and reason of everything banned in one module."""
    tree = ast.parse(source)
    uses_faust = any(
        (isinstance(node, ast.Import) and any(a.name.split(".")[0] == "faust" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "faust")
        for node in ast.walk(tree)
    )
    tables = table_names(tree)
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += [(node.lineno, reason) for reason in banned_call(node, uses_faust)]
        elif isinstance(node, ast.Attribute) and node.attr in BANNED_NAMES:
            found.append((node.lineno, node.attr))
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
            targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
            found += [
                (target.lineno, "table write")
                for target in targets
                if isinstance(target, ast.Subscript) and _last_name(target.value) in tables
            ]
    return found


def banned_call(node: ast.Call, uses_faust: bool) -> Iterator[str]:
    """Why a call is banned, if it is."""
    for keyword in node.keywords:
        if keyword.arg in BANNED_KEYWORDS:
            yield f"{keyword.arg}="
    if not isinstance(node.func, ast.Attribute):
        return
    owner, name = _last_name(node.func.value), node.func.attr
    if name == "send" and ("topic" in owner or "channel" in owner):
        yield "topic.send"
    if name in FAUST_SENDS and (uses_faust or "topic" in owner or owner == "app"):
        yield name
    if name in AGENT_MAKERS and owner in ("app", "faust_app"):
        yield f"app.{name}"
    if name in ("Table", "GlobalTable", "SetTable") and owner == "app":
        yield f"app.{name}"


def table_names(tree: ast.Module) -> set[str]:
    """Names bound to a table: imported from `tables`, or made by `declare(...)`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tables":
            names |= {alias.asname or alias.name for alias in node.names}
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and _last_name(node.value.func) in ("declare", "table", "Table", "GlobalTable")
        ):
            names |= {_last_name(target) for target in node.targets}
    return names - {""}


def _last_name(node: ast.expr) -> str:
    """`c` for `a.b.c`, `a` for `a`, nothing for other expressions."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def test_nothing_goes_around_the_delivery_core() -> None:
    """No module outside app/delivery sends, sinks, writes tables or makes agents itself."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {reason}"
        for path in product_files()
        for line, reason in violations(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("await orders_topic.send(value=b'')", "topic.send"),
        ("await app.topic.send(value=b'')", "topic.send"),
        ("import faust\nagent.cast(b'')", "cast"),
        ("import faust\nx.add_sink(y)", "add_sink"),
        ("@app.agent(topic, concurrency=4)\nasync def f(s): ...", "concurrency="),
        ("@app.agent(topic)\nasync def f(s): ...", "app.agent"),
        ("@app.timer(1.0)\nasync def f(): ...", "app.timer"),
        ("faust.App('x', processing_guarantee=exactly_once, exactly_once=1)", "exactly_once="),
        ("app.conf.stream_publish_on_commit = True", "stream_publish_on_commit"),
        ("from tables import sagas\nsagas[k] = v", "table write"),
        ("from tables.sagas import sagas\ndel sagas[k]", "table write"),
        ("t = sagas.declare(app)\nt[k] += 1", "table write"),
        ("t = app.Table('x')", "app.Table"),
    ],
)
def test_the_lint_sees_each_way_around(source: str, reason: str) -> None:
    """Every banned construct is recognised."""
    assert reason in [why for _, why in violations(source)]


def test_the_lint_passes_ordinary_code() -> None:
    """Sockets, dictionaries and generators are not mistaken for Faust."""
    source = "sock.send(b'')\nrows[k] = v\nkeeper.send(9)\ncast(int, x)\nasyncio.timer(1)"
    assert violations(source) == []
