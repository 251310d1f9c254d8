"""Books that move while they are read are read again, and not for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chaos.auditor import audit as module
from chaos.auditor.audit import READS_MAX, Options, audit
from chaos.auditor.records import Topics
from chaos.auditor.sources import Sources, UnreadableError

pytestmark = pytest.mark.unit


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The `unrest` of every judgement; nothing is really read."""
    seen: list[str] = []
    monkeypatch.setattr(module, "wait_for_rest", lambda *_, **__: "")
    monkeypatch.setattr(module, "read_books", lambda *_: {})
    monkeypatch.setattr(module, "facts", lambda _: {})
    monkeypatch.setattr(module, "judge", lambda *_, unrest, **__: seen.append(unrest))
    return seen


def run(monkeypatch: pytest.MonkeyPatch, looks: Iterator[Any]) -> list[str]:
    """Audit while `looks` are what is seen before and after each reading; what was told."""

    def look(_sources: Sources, _topics: Topics) -> Any:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    told: list[str] = []
    monkeypatch.setattr(module, "still", look)
    audit(Sources("dsn", "bootstrap", "symphony", (), None, None), Options(), told.append)
    return told


def test_books_that_moved_are_read_again(
    monkeypatch: pytest.MonkeyPatch, judged: list[str]
) -> None:
    """The judgement is on the reading during which nothing moved."""
    told = run(monkeypatch, iter([1, 2, 2, 2]))
    assert judged == [""]
    assert told == ["something moved while the books were read: reading them again"]


def test_books_that_never_stand_still_are_judged_as_they_are(
    monkeypatch: pytest.MonkeyPatch, judged: list[str]
) -> None:
    """After the last reading the verdict says that something moved."""
    run(monkeypatch, iter(range(2 * READS_MAX)))
    assert judged == ["something moved while the books were read"]


def test_books_that_cannot_be_looked_at_are_read_once(
    monkeypatch: pytest.MonkeyPatch, judged: list[str]
) -> None:
    """What is unreadable is the judge's business, not a movement."""
    run(monkeypatch, iter([UnreadableError("away"), UnreadableError("away")]))
    assert judged == [""]
