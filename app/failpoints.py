"""Named crash points on the code path.

Production code calls ``await failpoint("role.place")``; nothing happens unless the laboratory
installed an action there. Production never imports the laboratory: the setting ``plugins`` names
the module that installs actions, and only a lab accepts it.

What each point costs while no action is installed is measured by `bench.failpoints`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from app.roles import ROLES


class Hit(NamedTuple):
    """The code path came by: `events` are those under way (`key` is all one may use)."""

    point: str
    events: Sequence[Any]


class Point(NamedTuple):
    """A failpoint: where it stands, which roles pass it, and whether a key can be aimed at."""

    name: str
    roles: tuple[str, ...]
    meaning: str
    events: bool = False


Action = Callable[[Hit], Awaitable[None]]

_ALL = tuple(name for name, role in ROLES.items() if role.standard)
_CONSUMING = tuple(name for name in _ALL if ROLES[name].consumes)
_WITH_TABLES = tuple(name for name in _CONSUMING if ROLES[name].tables)
_TICKING = ("orchestrator", "slo")
_PUBLISHING_TICKS = ("orchestrator",)
_PAYING = ("payment",)
_CALLING = (*_PAYING, "notification")


def _core(place: str, meaning: str, *, events: bool = False) -> Point:
    return Point(f"delivery.{place}", _CONSUMING, meaning, events)


def _of(role: str, place: str, meaning: str, *, events: bool = False) -> Point:
    return Point(f"{role}.{place}", (role,), meaning, events)


def _delivery(roles: Sequence[str], place: str, meaning: str) -> Point:
    return Point(f"delivery.{place}", tuple(roles), meaning)


_POINTS = (
    Point("worker.before_start", _ALL, "all servers answer, the run is not registered"),
    Point("worker.before_stop", _ALL, "stopped in good order, the run is not closed"),
    _core("before_seek", "partitions assigned, positions not set yet"),
    _core("after_resume", "a stock resume would have opened the partitions here"),
    _core("before_drain", "partitions are being revoked, running steps go on"),
    _core("before_step", "a batch was cut and not touched yet"),
    _core("after_journal", "the batch stands in the killer journal, not run yet"),
    _core("before_journal_close", "the batch is done, its journal entry still open"),
    _core("before_transaction", "decoded and looked up, no transaction open", events=True),
    _core("in_transaction", "effects decided, written or queued; inbox not claimed", events=True),
    _core("before_commit", "claim of the inbox and COMMIT leave together next"),
    _core("before_move", "an event failed alone, its move is not committed", events=True),
    _core("after_commit", "transaction committed, tables not written", events=True),
    _core("while_held", "PostgreSQL is away or contended, the batch is held or repeated"),
    _core("before_flush", "outputs and table writes handed over, none acknowledged yet"),
    _core("after_outputs", "outputs acknowledged, watermark not moved"),
    _core("after_watermark", "watermark moved, offset not committed"),
    _core("before_offset_commit", "about to commit offsets"),
    _core("after_offset_commit", "offsets committed, not noted here"),
    _delivery(_WITH_TABLES, "after_changelog", "changelog acknowledged, local store not written"),
    _delivery(_WITH_TABLES, "after_tables", "tables written"),
    _delivery(_CALLING, "after_intent", "INTENT recorded, third party not called yet"),
    _delivery(_CALLING, "after_call", "third party answered, answer not recorded"),
    _delivery(
        _TICKING, "tick_before_commit", "tick effects written or queued, transaction not committed"
    ),
    _delivery(_TICKING, "tick_after_commit", "tick effects committed, its outputs not published"),
    _delivery(
        _PUBLISHING_TICKS, "tick_after_publish", "tick outputs acknowledged, not marked as sent"
    ),
    _delivery(
        _PUBLISHING_TICKS, "tick_recovered", "a dead worker's unsent ticks were read, not published"
    ),
    Point("delivery.while_waiting", ("dlq",), "the batch waits until a record of it is due"),
    _of("web", "before_transaction", "a batch of orders left the queue, no transaction open"),
    _of("web", "before_commit", "orders and outbox rows written or queued, not committed"),
    _of("web", "after_commit", "orders durable, nobody answered yet"),
    _of("web", "before_cancel_commit", "a request to cancel is queued, not committed"),
    _of("web", "after_cancel_commit", "a request to cancel is durable, not answered yet"),
    _of("relay", "before_connect", "a new producer is needed, the old one is let go"),
    _of("relay", "before_renew", "leases are about to be renewed, no transaction open"),
    _of("relay", "before_renew_commit", "leases taken and renewed, not committed"),
    _of("relay", "after_renew", "leases committed, not noted here"),
    _of("relay", "before_publish", "outbox rows read, nothing sent"),
    _of("relay", "before_flush", "outbox rows handed to the producer, none acknowledged yet"),
    _of("relay", "after_publish", "outbox rows acknowledged by the broker, not deleted"),
    _of("relay", "after_delete", "outbox rows deleted, transaction not committed"),
    _of("relay", "after_delete_commit", "outbox rows gone for good, the round not ended"),
    _of("relay", "before_leave", "stopping, the leases are not given back"),
    _of("orchestrator", "before_reload", "a working copy is in doubt, PostgreSQL not asked"),
    _of("orchestrator", "before_write", "events decided, no saga written"),
    _of("orchestrator", "before_restore", "a repeated batch, table entries not fetched"),
    _of("orchestrator", "after_idle", "idle sagas read and touched, nothing committed"),
    _of("payment", "before_call", "one charge or refund is due, the gateway not called yet"),
    _of("payment", "after_call", "the gateway answered one charge or refund, not recorded"),
    _of("payment", "between_cancel_and_refund", "the charge was found captured, not refunded yet"),
    Point("gateway.before_read", _PAYING, "the gateway's answer has begun, nothing of it was read"),
    Point("gateway.before_retry", _PAYING, "an attempt came to nothing, the next not made"),
    _of("inventory", "after_lock", "stock and reservations locked, not decided", events=True),
    _of("shipping", "after_lock", "shipments locked, not decided", events=True),
    _of("dlq", "before_redelivery", "retries are due, nothing sent back", events=True),
    _of("dlq", "before_index", "dead letters read, not indexed", events=True),
    _of("dlq", "after_claim", "a job has claimed letters, nothing is decided"),
    _of("dlq", "before_redrive", "records made of claimed letters, none sent"),
    _of("dlq", "after_redrive", "records acknowledged, their letters not settled"),
    _of("dlq", "after_delete", "records deleted from Kafka, the index not emptied"),
)

POINTS: Mapping[str, Point] = MappingProxyType({point.name: point for point in _POINTS})

POINTS_WITH_EVENTS = frozenset(name for name, point in POINTS.items() if point.events)
"""Where a fault can be aimed at the key of an event."""

_actions: dict[str, tuple[Action, ...]] = {}


async def failpoint(name: str, events: Sequence[Any] = ()) -> None:
    """Run the actions at `name` in turn; free (one dictionary test) when none is installed."""
    if _actions and (actions := _actions.get(name)) is not None:
        for action in actions:
            await action(Hit(name, events))


def install(name: str, action: Action) -> None:
    """Put `action` at `name`, replacing what was there. Raises KeyError for an unknown point."""
    _actions.pop(name, None)
    add(name, action)


def add(name: str, action: Action) -> None:
    """Put `action` behind what is at `name` already. Raises KeyError for an unknown point."""
    if name not in POINTS:
        raise KeyError(f"unknown failpoint {name!r}; known: {', '.join(sorted(POINTS))}")
    _actions[name] = (*_actions.get(name, ()), action)


def discard(name: str, action: Action) -> None:
    """Take this one `action` away from `name`; nothing happens when it is not there."""
    left = tuple(one for one in _actions.get(name, ()) if one != action)
    if left:
        _actions[name] = left
    else:
        _actions.pop(name, None)


def remove(name: str) -> None:
    """Take every action at `name` away; nothing happens when there is none."""
    _actions.pop(name, None)


def action_at(name: str) -> Action | None:
    """The first action installed at `name` now."""
    actions = _actions.get(name)
    return actions[0] if actions else None


def installed() -> tuple[str, ...]:
    """Names that have an action now."""
    return tuple(sorted(_actions))
