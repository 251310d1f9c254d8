"""What the auditor has written down of the platform is true of it."""

from __future__ import annotations

import pytest
from aiokafka.structs import ConsumerRecord

from app.delivery.decoding import letter_id
from app.domain.notification import TEMPLATES
from app.messages import OrderStatusChanged, StockLow
from app.settings import load_settings
from app.slo import objectives, outcomes, panes
from app.topics import DEAD_LETTER_TOPICS, MESSAGE_TOPICS
from chaos.auditor import identity, platform, views
from chaos.auditor.platform import (
    FAMILIES,
    NOTIFIED,
    PARKED,
    RECURRING,
    RETRY_TIERS,
    TOLD_LEVELS,
    TOLD_REPLIES,
    TOLD_STATUSES,
)
from chaos.auditor.store import Store

pytestmark = pytest.mark.unit


def test_every_topic_that_can_hold_a_message_is_read() -> None:
    """The index of dead letters tells of all of them, so an unread one would look like a defect."""
    unread = [
        name
        for name in (*MESSAGE_TOPICS, *DEAD_LETTER_TOPICS, *RETRY_TIERS)
        if not name.startswith(FAMILIES)
    ]
    assert unread == []


def test_whom_the_notifier_passes_over() -> None:
    """It takes in what its templates are about, apart from replies of something undone."""
    statuses, replies, whole = set(), set(), set()
    for one in TEMPLATES:
        (topic,) = one.body.TOPICS
        if one.body is OrderStatusChanged:
            statuses.add(one.when["status"])
        elif one.when.get("operation") in ("refund", "cancel"):
            continue
        elif topic.endswith(".result") and one.when["outcome"] != PARKED:
            replies.add((topic, one.when["operation"], one.when["outcome"]))
        elif not topic.endswith(".result"):
            whole.add(topic)
    assert (statuses, replies) == (set(TOLD_STATUSES), set(TOLD_REPLIES))
    assert whole >= {topic for topic in NOTIFIED if not topic.endswith((".result", "_changed"))}
    assert {one.kind for one in TEMPLATES if one.per} == set(RECURRING)
    levels = {one.when["level"]: one.kind for one in TEMPLATES if one.body is StockLow}
    assert levels == dict(TOLD_LEVELS)


def test_what_counts_for_service_levels_is_what_the_platform_says() -> None:
    """Both write it down; neither may change it alone."""
    assert set(platform.COUNTED_STATUSES) == outcomes.COUNTED
    assert set(platform.BUSINESS_REASONS) == set(outcomes.BUSINESS)
    declared = objectives.declared()
    assert objectives.threshold_s(declared, "completion") == platform.COMPLETION_MAX_S
    assert load_settings().slo_skew_max_s == platform.SKEW_MAX_S
    assert (panes.FINE_S, panes.COARSE_S) == (platform.FINE_S, platform.COARSE_S)
    fine = [panes.WINDOWS_S[window] for window in panes.FINE_WINDOWS]
    assert (max(fine), max(panes.WINDOWS_S.values())) == (
        platform.FINE_WINDOW_S, platform.COARSE_WINDOW_S
    )  # fmt: skip


@pytest.mark.parametrize("both", [True, False], ids=["both-widths", "coarse-alone"])
@pytest.mark.parametrize("scale", [1, 1.5, 7, 30, 60, 119, 150, 600])
def test_no_pane_is_missed_that_the_platform_has_trimmed(scale: float, both: bool) -> None:
    """Whatever the time scale, the auditor asks for no older panes than are kept; after a while
    without orders all fine ones are gone."""
    scheme = panes.scheme_of(scale)
    with Store() as store:
        store.insert("instant", [{"at_s": 1_000_000.0}])
        for width_s in (scheme.fine_s, scheme.coarse_s)[not both :]:
            store.insert("pane", [{"sli": "fraud", "width_s": width_s, "start_s": 1}])
        views.prepare(store)
        found = dict(store.rows("select width_s, since_s from pane_width"))
    assert found.keys() == {scheme.fine_s, scheme.coarse_s}
    for width_s, since_s in found.items():
        assert 1_000_000.0 - since_s <= scheme.kept_s(width_s)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="first"),
        pytest.param({"x-redrives": b"2"}, id="redriven"),
        pytest.param({"x-retry-role": b"notification"}, id="by-another"),
        pytest.param({"x-original-offset": b"many"}, id="unreadable"),
        pytest.param({"x-original-offset": b""}, id="no-origin"),
        pytest.param({"x-original-topic": b"\xff"}, id="not-utf-8"),
    ],
)
def test_a_dead_letter_is_known_by_what_it_speaks_of(changes: dict[str, bytes]) -> None:
    """By the same rule here as there; copies are one letter, and nothing else is."""
    headers = {
        "x-original-topic": b"payment.requested", "x-original-partition": b"1",
        "x-original-offset": b"7", "x-retry-role": b"payment", "x-attempt": b"4",
    }  # fmt: skip
    topic = "payment.requested.dlt"

    def theirs(offset: int, told: dict[str, bytes]) -> str:
        return letter_id(
            ConsumerRecord(topic, 1, offset, 0, 1, b"k", b"v", None, 0, 0, tuple(told.items()))
        )

    changed = {**headers, **changes}
    for offset in (3, 4):
        ours = identity.of_letter(topic, 1, offset, changed)
        assert ours == theirs(offset, changed).replace("-", "")
    assert (theirs(3, changed) == theirs(4, changed)) == bool(changed["x-original-offset"])
    assert (theirs(3, changed) == theirs(3, headers)) == (not changes)
