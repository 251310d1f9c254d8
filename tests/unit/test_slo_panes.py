"""Events fall into panes by the time at which they happened, whenever and however often read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.slo.panes import (
    FINE_WINDOWS,
    WINDOWS_S,
    Key,
    Measured,
    Odd,
    Pane,
    from_bytes,
    keys_of,
    merged,
    pane_of,
    place,
    scheme_of,
    start_of,
    to_bytes,
)
from app.slo.sketch import of

pytestmark = pytest.mark.unit

NOW_S = 1_800_000_000.0
SCHEME = scheme_of(1)
SKEW_S = 5.0
DAY_S = 86_400.0

scales = st.floats(min_value=1, max_value=600)
panes = st.builds(
    Pane,
    st.integers(0, 10),
    st.integers(0, 10),
    st.lists(st.floats(0, 100), max_size=5).map(of),
)


@pytest.mark.parametrize(
    ("at_s", "received_s", "counted_at_s", "odd"),
    [
        pytest.param(NOW_S - 1, NOW_S, NOW_S - 1, None, id="just-now"),
        pytest.param(NOW_S - 3600, NOW_S, NOW_S - 3600, None, id="an-hour-late"),
        pytest.param(NOW_S + 4, NOW_S, NOW_S + 4, None, id="a-little-ahead"),
        pytest.param(NOW_S + 5.1, NOW_S, NOW_S, "future", id="from-the-future"),
        pytest.param(NOW_S + 400 * DAY_S, NOW_S, NOW_S, "future", id="from-next-year"),
        pytest.param(NOW_S - 3 * DAY_S, NOW_S, NOW_S - 3 * DAY_S, None, id="three-days-old"),
        pytest.param(NOW_S - 4 * DAY_S, NOW_S, None, "ancient", id="four-days-old"),
        pytest.param(-6e10, NOW_S, None, "ancient", id="from-the-year-one"),
        pytest.param(NOW_S - 4 * DAY_S + 9, NOW_S - 4 * DAY_S, None, "ancient", id="both"),
    ],
)
def test_where_an_event_counts(
    at_s: float, received_s: float, counted_at_s: float | None, odd: Odd | None
) -> None:
    """Late is counted where it belongs, the future as of its arrival, the ancient not at all."""
    placed = place(at_s, received_s, NOW_S, scheme=SCHEME, skew_max_s=SKEW_S)
    assert placed == (counted_at_s, odd)


@given(st.floats(NOW_S - 2 * DAY_S, NOW_S), st.floats(0, DAY_S))
def test_reading_late_moves_nothing(at_s: float, delay_s: float) -> None:
    """Whoever reads an event later finds the same coarse pane."""
    early = keys_of("fraud", at_s, NOW_S, SCHEME)
    late = keys_of("fraud", at_s, NOW_S + delay_s, SCHEME)
    assert set(late) <= set(early)
    assert early[0] == late[0] == Key("fraud", SCHEME.coarse_s, start_of(at_s, SCHEME.coarse_s))


def test_a_fine_pane_is_written_only_while_it_is_kept() -> None:
    """A late event enters no pane that was trimmed: it would never leave again."""
    fine = Key("fraud", 10, int(NOW_S) - 3600)
    assert fine not in keys_of("fraud", NOW_S - 3600, NOW_S, SCHEME)
    assert len(keys_of("fraud", NOW_S - 60, NOW_S, SCHEME)) == 2


@given(scales)
def test_every_window_is_made_of_panes_that_are_kept_for_it(scale: float) -> None:
    """Whatever the scale: whole seconds, two widths, kept for a window and its edge."""
    scheme = scheme_of(scale)
    assert 1 <= scheme.fine_s < scheme.coarse_s
    assert list(scheme.windows_s) == list(WINDOWS_S)
    for window, length_s in scheme.windows_s.items():
        width_s = scheme.width_of(window)
        assert width_s == (scheme.fine_s if window in FINE_WINDOWS else scheme.coarse_s)
        assert scheme.kept_s(width_s) >= length_s


def test_a_scale_shortens_all_lengths_alike() -> None:
    """At 60 an hour is a minute; a pane is never below a second."""
    scheme = scheme_of(60)
    assert (scheme.fine_s, scheme.coarse_s) == (1, 5)
    assert scheme.windows_s["1h"] == 60
    assert scheme.windows_s["3d"] == 4320


@given(st.lists(panes, max_size=6), st.randoms(use_true_random=False))
def test_panes_merge_in_any_order(listed: list[Pane], random: object) -> None:
    """Workers, partitions and batches may be added up as they come."""
    shuffled = list(listed)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    whole = merged(listed)
    one_by_one = Pane()
    for pane in shuffled:
        one_by_one = merged((one_by_one, pane))
    assert one_by_one == whole
    assert whole.good == sum(pane.good for pane in listed)
    assert whole.sketch.count == sum(pane.sketch.count for pane in listed)


@given(panes)
def test_a_pane_survives_its_bytes(pane: Pane) -> None:
    """What the table holds is the pane; equal panes are equal bytes."""
    assert from_bytes(to_bytes(pane)) == pane
    assert to_bytes(from_bytes(to_bytes(pane))) == to_bytes(pane)


def test_a_key_survives_its_bytes() -> None:
    """The table's key names the pane."""
    key = Key("dead_letters", 300, 1_800_000_000)
    assert Key.unpacked(key.packed()) == key


def test_one_event_is_one_pane() -> None:
    """Good or bad, with its latency where it has one."""
    assert pane_of(Measured("fraud", good=False)) == Pane(0, 1)
    assert pane_of(Measured("completion", good=True, sketch=of([1.5]))) == Pane(1, 0, of([1.5]))
