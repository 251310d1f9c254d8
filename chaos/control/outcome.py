"""What became of a change of chaos rules, from what the workers say; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from app.control.acks import Ack
    from chaos.control.rule import Rule

Meant = Mapping[str, Sequence["Rule"]]
"""The workers that a change is for, and the rules of it that each is to have in force."""


class Edit(NamedTuple):
    """One key of the topic that a change sets, or deletes, and what stood there `before`.

    `version` is known once it is published.
    """

    key: str
    value: bytes | None
    before: bytes | None
    version: int = 0


def numbered(edits: Sequence[Edit], last: int) -> list[Edit]:
    """The edits of one batch with their versions, of which the last is known."""
    first = last - len(edits) + 1
    return [edit._replace(version=number) for number, edit in enumerate(edits, first)]


def undoing(edits: Sequence[Edit], latest: Mapping[str, int]) -> list[tuple[str, bytes | None]]:
    """What takes a change back: as it was before, where nobody has changed it since.

    `latest` are the versions of the keys now. Backwards, so that what comes back has room again.
    """
    return [(one.key, one.before) for one in reversed(edits) if latest.get(one.key) == one.version]


def refusals(
    rules: Iterable[Rule], said: Mapping[str, Ack], workers: Iterable[str]
) -> dict[str, str]:
    """Why each of `workers` refused one of `rules`, by worker."""
    ids = [rule.id for rule in rules]
    return {
        worker: said[worker].refused[rule_id]
        for worker in workers
        for rule_id in ids
        if worker in said and rule_id in said[worker].refused
    }


def lacking(
    meant: Meant, deleted: Collection[str], said: Mapping[str, Ack], version: int
) -> dict[str, str]:
    """Why a change is not in force, by worker; nothing of those where it is.

    To have read it, up to `version`, is not enough: a worker may have taken a rule for over.
    """
    reasons: dict[str, str] = {}
    for worker, rules in meant.items():
        ack = said.get(worker)
        if ack is None or ack.version < version:
            reasons[worker] = "it has not said so yet"
        elif reason := _reason(rules, deleted, ack.note, version):
            reasons[worker] = reason
    return reasons


def _reason(
    rules: Iterable[Rule], deleted: Iterable[str], note: Mapping[str, Any], version: int
) -> str:
    for rule in rules:
        has = _version(note, rule.id)
        if has > rule.version:
            return f"{rule.id} was changed again since"
        if has < rule.version:
            return f"{rule.id} is over there: by that worker's clock, or by the kill switch"
    for rule_id in deleted:
        if _version(note, rule_id) > version:
            return f"{rule_id} was made again since"
    return ""


def _version(note: Mapping[str, Any], rule_id: str) -> int:
    """Which version of a rule a worker has in force; 0 for none."""
    return int(note.get(rule_id, {}).get("version", 0))
