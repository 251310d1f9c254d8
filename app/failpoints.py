"""Named crash points on the code path.

Production code calls ``await failpoint("role.place")``; nothing happens unless the laboratory
installed an action there. Production never imports the laboratory: the setting ``plugins`` names
the module that installs actions, and only a lab accepts it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple


class Hit(NamedTuple):
    """The code path came by: `events` are those under way (`key` is all one may use)."""

    point: str
    events: Sequence[Any]


Action = Callable[[Hit], Awaitable[None]]

POINTS: Mapping[str, str] = MappingProxyType(
    {
        "delivery.before_step": "a batch was cut and not touched yet",
        "delivery.before_transaction": "decoded and looked up, no transaction open",
        "delivery.in_transaction": "effects decided, written or queued; inbox not yet claimed",
        "delivery.before_commit": "all is ready; claim of the inbox and COMMIT leave together next",
        "delivery.after_commit": "transaction committed, tables not written",
        "delivery.after_intent": "INTENT recorded, third party not called yet",
        "delivery.after_call": "third party answered, answer not recorded",
        "delivery.after_changelog": "changelog acknowledged, local store not written",
        "delivery.after_tables": "tables written, outputs not sent",
        "delivery.after_outputs": "outputs acknowledged, watermark not moved",
        "delivery.after_watermark": "watermark moved, offset not committed",
        "delivery.before_offset_commit": "about to commit offsets",
        "delivery.before_seek": "partitions assigned, positions not set yet",
        "delivery.after_resume": "a stock resume would have opened the partitions here",
        "delivery.tick_before_commit": "tick effects written or queued, transaction not committed",
        "payment.before_call": "one charge or refund is due, the gateway not called yet",
        "payment.after_call": "the gateway answered one charge or refund, nothing recorded",
        "payment.between_cancel_and_refund": "the charge was found captured, not refunded yet",
        "relay.before_publish": "outbox rows read, nothing sent",
        "relay.after_publish": "outbox rows acknowledged by the broker, not deleted",
        "relay.after_delete": "outbox rows deleted, transaction not committed",
    }
)

POINTS_WITH_EVENTS = frozenset(
    {"delivery.before_transaction", "delivery.in_transaction", "delivery.after_commit"}
)
"""Where a fault can be aimed at the key of an event."""

_actions: dict[str, Action] = {}


async def failpoint(name: str, events: Sequence[Any] = ()) -> None:
    """Run the action installed at `name`; free (one dictionary test) when none is installed."""
    if _actions and (action := _actions.get(name)) is not None:
        await action(Hit(name, events))


def install(name: str, action: Action) -> None:
    """Put `action` at `name`, replacing what was there. Raises KeyError for an unknown point."""
    if name not in POINTS:
        raise KeyError(f"unknown failpoint {name!r}; known: {', '.join(sorted(POINTS))}")
    _actions[name] = action


def remove(name: str) -> None:
    """Take the action at `name` away; nothing happens when there is none."""
    _actions.pop(name, None)


def installed() -> tuple[str, ...]:
    """Names that have an action now."""
    return tuple(sorted(_actions))
