"""Named crash points on the code path.

Production code calls ``await failpoint("role.place")``; nothing happens unless the laboratory
installed an action there. Production never imports the laboratory: the setting ``plugins`` names
the module that installs actions, and only a lab accepts it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

Action = Callable[[str], Awaitable[None]]

POINTS: Mapping[str, str] = MappingProxyType(
    {
        "delivery.before_step": "a batch was cut and not touched yet",
        "delivery.before_transaction": "decoded and looked up, no transaction open",
        "delivery.in_transaction": "effects written, inbox not yet claimed",
        "delivery.before_commit": "inbox claimed, transaction not committed",
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
        "delivery.tick_before_commit": "tick effects written, transaction not committed",
        "relay.before_publish": "outbox rows read, nothing sent",
        "relay.after_publish": "outbox rows acknowledged by the broker, not deleted",
        "relay.after_delete": "outbox rows deleted, transaction not committed",
    }
)

_actions: dict[str, Action] = {}


async def failpoint(name: str) -> None:
    """Run the action installed at `name`; free (one dictionary test) when none is installed."""
    if _actions and (action := _actions.get(name)) is not None:
        await action(name)


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
