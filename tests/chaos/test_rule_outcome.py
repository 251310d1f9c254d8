"""Facts about what is said of a change of chaos rules, and about taking it back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.control.acks import Ack
from chaos.control.outcome import Edit, lacking, numbered, refusals, undoing
from chaos.control.rule import Rule

pytestmark = pytest.mark.unit

AT = datetime(2026, 1, 1, tzinfo=UTC)


def rule(rule_id: str, version: int) -> Rule:
    """A published rule."""
    return Rule(id=rule_id, fault="delay", ttl_s=60.0, expires_at=AT, version=version)


def ack(version: int, refused: dict[str, str] | None = None, **in_force: int) -> Ack:
    """A worker has read everything below `version` and has these rules, by id their version."""
    note: dict[str, Any] = {rule_id: {"version": has} for rule_id, has in in_force.items()}
    return Ack(worker="w", role="payment", incarnation="i", version=version, at=AT,
               refused=refused or {}, note=note)  # fmt: skip


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (None, "it has not said so yet"),
        (ack(6, a=7), "it has not said so yet"),
        (ack(7), "a is over there: by that worker's clock, or by the kill switch"),
        (ack(7, a=3), "a is over there: by that worker's clock, or by the kill switch"),
        (ack(9, a=8), "a was changed again since"),
        (ack(9, a=7, gone=8), "gone was made again since"),
        (ack(7, a=7), ""),
        (ack(9, a=7, other=8), ""),
    ],
    ids=["silent", "behind", "not taken up", "older", "newer", "made again", "there", "beside"],
)
def test_a_rule_is_in_force_where_the_worker_says_that_it_has_it(
    said: Ack | None, reason: str
) -> None:
    """To have read the change is not enough."""
    heard = {} if said is None else {"w": said}
    found = lacking({"w": [rule("a", 7)]}, ["gone"], heard, 7)
    assert found == ({"w": reason} if reason else {})


def test_a_worker_that_is_meant_by_a_deletion_alone_need_have_nothing() -> None:
    """It has read it, and that is all there is to do."""
    assert lacking({"w": []}, ["gone"], {"w": ack(7)}, 7) == {}


def test_refusals_are_those_of_the_rules_and_workers_that_are_asked_about() -> None:
    """By worker, with the reason."""
    heard = {"w": ack(7, {"a": "no room"}), "x": ack(7, {"b": "no room"}), "y": ack(7)}
    assert refusals([rule("a", 7)], heard, ["w", "x", "y"]) == {"w": "no room"}
    assert refusals([rule("a", 7)], heard, ["x"]) == {}


def test_a_change_is_taken_back_where_nobody_has_changed_it_since() -> None:
    """What was set is as it was or gone, what was deleted is back; a newer change stays."""
    edits = numbered(
        [
            Edit("deleted", None, b"rule"),
            Edit("replaced", b"new", b"old"),
            Edit("made", b"new", None),
            Edit("config/http", b"new", b"old"),
            Edit("changed", b"new", b"old"),
            Edit("forgotten", b"new", b"old"),
        ],
        last=16,
    )
    assert [edit.version for edit in edits] == [11, 12, 13, 14, 15, 16]
    latest = {"deleted": 11, "replaced": 12, "made": 13, "config/http": 14, "changed": 17}
    assert undoing(edits, latest) == [
        ("config/http", b"old"),
        ("made", None),
        ("replaced", b"old"),
        ("deleted", b"rule"),
    ], "backwards, as a worker has room for so many rules"
