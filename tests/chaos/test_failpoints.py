"""The registry of failpoints against the code and against the tests that crash there."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from app.failpoints import POINTS, POINTS_WITH_EVENTS
from app.roles import ROLES
from chaos.faults.command import failpoints
from tests.chaos.crash_points import CONFORMANCE, PLATFORM, REDRIVE

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
CODE = [path for name in ("app", "agents", "web") for path in (ROOT / name).rglob("*.py")]


def passed() -> dict[str, list[ast.Call]]:
    """Every call of a failpoint in production code, by name."""
    found: dict[str, list[ast.Call]] = {}
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
                name = node.args[0]
                assert isinstance(name, ast.Constant), f"{path}: a failpoint's name is a literal"
                found.setdefault(str(name.value), []).append(node)
    return found


def test_the_code_passes_every_declared_failpoint_and_no_other() -> None:
    """A point that nobody passes proves nothing; one that is not declared cannot be aimed at."""
    assert passed().keys() == POINTS.keys()


def test_events_are_given_where_a_key_can_be_aimed_at() -> None:
    """`match` works exactly where every call names the events under way."""
    for name, calls in passed().items():
        given = {len(call.args) == 2 for call in calls}
        assert given == {name in POINTS_WITH_EVENTS}, name


def test_a_crash_at_every_failpoint_is_tested() -> None:
    """Neither a point without a crash test nor a test of a point that is gone."""
    tested = CONFORMANCE | PLATFORM | REDRIVE
    assert sorted(POINTS.keys() - tested) == []
    assert sorted(tested - POINTS.keys()) == []


def test_production_code_imports_nothing_of_the_laboratory() -> None:
    """The points are production code's own; what happens there comes from outside."""
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [one for one in names if one.partition(".")[0] == "chaos"], path


def test_every_role_has_failpoints_and_every_failpoint_a_role() -> None:
    """Roles are named as they are called, and each can be made to crash."""
    named = {role for point in POINTS.values() for role in point.roles}
    assert named == {role.name for role in ROLES.values() if role.standard}
    assert all(point.roles and point.meaning for point in POINTS.values())


def test_the_command_lists_every_failpoint(capsys: pytest.CaptureFixture[str]) -> None:
    """Name, roles, meaning, and whether a key can be aimed at; as a table and as JSON."""
    failpoints(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["events"] for one in told} == {
        name: point.events for name, point in POINTS.items()
    }
    assert all(one["roles"] and one["meaning"] for one in told)
    failpoints()
    table = capsys.readouterr().out.splitlines()
    assert len(table) == len(POINTS) + 1
    assert "dlq.before_index" in table[-len(POINTS) :][sorted(POINTS).index("dlq.before_index")]
