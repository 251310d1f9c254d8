"""The toxics in virtual time: what leaves when, and that no byte is lost or moved."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.proxy.bodies import attributes_of
from chaos.proxy.chain import Chain
from chaos.proxy.items import End, Item
from chaos.proxy.toxic import Strength, Toxic
from chaos.proxy.toxics import KINDS
from chaos.proxy.toxics.stage import Stage

pytestmark = pytest.mark.unit


def make(kind: str, now: float = 0.0, seed: int = 1, **attributes: int) -> Stage[Any]:
    """A stage of a toxic."""
    return KINDS[kind](attributes_of(kind, attributes), Random(seed), now)


def run(chain: Chain, until: float) -> list[tuple[float, Item]]:
    """Let time pass; what leaves, and when."""
    left: list[tuple[float, Item]] = []
    while (due := chain.due()) is not None and due <= until:
        left += [(due, item) for item in chain.advance(due, 10_000)]
    return left


def one(stage: Stage[Any]) -> Chain:
    """A chain of one stage."""
    chain = Chain()
    chain.add(1, stage)
    return chain


def data_of(items: list[tuple[float, Item]]) -> bytes:
    """All bytes in order."""
    return b"".join(item for _, item in items if isinstance(item, bytes))


def test_latency_delays_each_chunk_and_the_end_by_the_same() -> None:
    """100 ms after each arrival, in order, the end last."""
    chain = one(make("latency", latency=100))
    chain.feed(b"a", 0.0)
    chain.feed(b"b", 0.05)
    chain.feed(End.FIN, 0.05)
    left = run(chain, 9)
    assert [item for _, item in left] == [b"a", b"b", End.FIN]
    assert [round(at, 3) for at, _ in left] == [0.1, 0.15, 0.15]


def test_jitter_stays_in_its_range_and_keeps_the_order() -> None:
    """Delays vary by +/- jitter; a late chunk holds up those behind it."""
    chain = one(make("latency", latency=100, jitter=80))
    for number in range(200):
        chain.feed(bytes([number]), number * 0.01)
    left = run(chain, 99)
    assert data_of(left) == bytes(range(200))
    delays = [at - number * 0.01 for number, (at, _) in enumerate(left)]
    assert min(delays) >= 0.02 - 1e-9
    assert max(delays) <= 0.18 + 1e-9
    assert max(delays) - min(delays) > 0.05


def test_the_same_seed_draws_the_same_jitter() -> None:
    """Times are those of the seed, another seed has others."""

    def times(seed: int) -> list[float]:
        chain = one(make("latency", seed=seed, latency=50, jitter=50))
        for number in range(20):
            chain.feed(b"x", float(number))
        return [at for at, _ in run(chain, 99)]

    assert times(7) == times(7)
    assert times(7) != times(8)


def test_bandwidth_takes_the_time_of_its_rate() -> None:
    """10 KB at 10 KB/s take a second, in pieces of a tenth."""
    chain = one(make("bandwidth", rate=10))
    chain.feed(b"x" * 10_000, 0.0)
    left = run(chain, 9)
    assert [len(item) for _, item in left if isinstance(item, bytes)] == [1000] * 10
    assert left[-1][0] == pytest.approx(1.0)


def test_bandwidth_of_nothing_keeps_everything_for_later() -> None:
    """Rate 0 lets nothing pass, the end included; without the toxic all of it does."""
    chain = one(make("bandwidth", rate=0))
    chain.feed(b"kept", 0.0)
    chain.feed(End.FIN, 0.0)
    assert chain.due() is None
    assert chain.held == 4
    assert chain.remove(1, 5.0) == [b"kept", End.FIN]


def test_a_raised_rate_counts_from_its_change() -> None:
    """What waited for a cut line is not let through as one burst."""
    chain = one(make("bandwidth", rate=0))
    chain.feed(b"x" * 2000, 0.0)
    chain.change(1, attributes_of("bandwidth", {"rate": 1}), 100.0)
    assert run(chain, 101.0 + 1e-6)[-1][0] == pytest.approx(101.0)
    assert chain.held == 1000


def test_slices_have_the_size_and_distance_asked_for() -> None:
    """Sizes vary within average +/- variation, slices leave `delay` apart."""
    chain = one(make("slicer", average_size=10, size_variation=4, delay=2000))
    content = bytes(range(250))
    chain.feed(content, 0.0)
    left = run(chain, 9)
    sizes = [len(item) for _, item in left if isinstance(item, bytes)]
    assert data_of(left) == content
    assert set(sizes[:-1]) <= set(range(6, 15))
    assert len(set(sizes)) > 3
    gaps = [later - at for (at, _), (later, _) in pairwise(left)]
    assert gaps == pytest.approx([0.002] * len(gaps))


def test_slow_close_touches_the_end_only() -> None:
    """Data pass at once, the end later."""
    chain = one(make("slow_close", delay=700))
    chain.feed(b"x", 1.0)
    chain.feed(End.FIN, 1.0)
    assert run(chain, 9) == [(1.0, b"x"), (1.7, End.FIN)]


def test_timeout_swallows_data_and_the_end_and_closes_once() -> None:
    """Nothing passes but the toxic's own close, after its time."""
    chain = one(make("timeout", timeout=500))
    chain.feed(b"lost", 0.1)
    chain.feed(End.FIN, 0.2)
    assert run(chain, 9) == [(0.5, End.CLOSE)]
    assert chain.due() is None
    assert chain.dropped == 4


def test_a_black_hole_closes_only_when_it_goes() -> None:
    """With timeout 0 nothing is ever due; its end is the connection's, as bytes are missing."""
    chain = one(make("timeout", timeout=0))
    chain.feed(b"lost", 0.0)
    assert chain.due() is None
    assert chain.remove(1, 60.0) == [End.CLOSE]


def test_reset_peer_waits_for_use() -> None:
    """An idle connection is left alone; the first data are dropped and start the clock."""
    chain = one(make("reset_peer", timeout=200))
    assert chain.due() is None
    chain.feed(b"request", 3.0)
    assert run(chain, 9) == [(3.2, End.RESET)]
    assert chain.dropped == 7


def test_an_unused_reset_peer_leaves_nothing_behind() -> None:
    """Removed before any data it does nothing, after data it resets."""
    assert one(make("reset_peer", timeout=200)).remove(1, 1.0) == []
    chain = one(make("reset_peer", timeout=200))
    chain.feed(b"x", 1.0)
    assert chain.remove(1, 1.1) == [End.RESET]


@pytest.mark.parametrize("limit", [0, 1, 99, 100, 101])
def test_limit_data_passes_exactly_its_bytes(limit: int) -> None:
    """So many bytes and then the close; what comes later is dropped and counted."""
    chain = one(make("limit_data", bytes=limit))
    content = bytes(range(200))
    for start in range(0, 200, 50):
        chain.feed(content[start : start + 50], 0.0)
    left = run(chain, 9)
    assert data_of(left) == content[:limit]
    assert left[-1][1] is End.CLOSE
    assert chain.dropped == 200 - limit


def test_toxics_stand_one_behind_the_other() -> None:
    """What one lets go the next one takes, and time adds up."""
    chain = Chain()
    chain.add(2, make("latency", latency=100))
    chain.add(1, make("bandwidth", rate=1))
    chain.feed(b"x" * 200, 0.0)
    times = [at for at, _ in run(chain, 9)]
    assert times == pytest.approx([0.2, 0.3])


def test_a_removed_toxic_hands_over_to_the_next() -> None:
    """What a middle stage held is not ahead of what the later one holds."""
    chain = Chain()
    chain.add(1, make("latency", latency=10_000))
    chain.add(2, make("latency", latency=100))
    chain.feed(b"a", 0.0)
    assert chain.remove(1, 1.0) == []
    chain.feed(b"b", 1.0)
    assert [(round(at, 3), item) for at, item in run(chain, 9)] == [(1.1, b"a"), (1.1, b"b")]


def test_toxicity_is_decided_by_seed_name_and_connection() -> None:
    """The same connections for the same seed, about as many as asked, and more for more."""

    def hit(toxicity: float, seed: str = "1/kafka", name: str = "cut") -> set[int]:
        strength = Strength(attributes_of("timeout", {}), toxicity)
        toxic = Toxic(1, name, "timeout", "upstream", strength, seed)
        return {number for number in range(1000) if toxic.applies_to(number)}

    assert hit(0.0) == set()
    assert len(hit(1.0)) == 1000
    assert hit(0.3) == hit(0.3)
    assert 200 < len(hit(0.3)) < 400
    assert hit(0.3) < hit(0.6)
    assert hit(0.3) != hit(0.3, seed="2/kafka")
    assert hit(0.3) != hit(0.3, name="cut2")


HARMLESS = st.one_of(
    st.builds(
        lambda latency, jitter: ("latency", {"latency": latency, "jitter": jitter}),
        st.integers(0, 500),
        st.integers(0, 500),
    ),
    st.builds(lambda rate: ("bandwidth", {"rate": rate}), st.integers(1, 1000)),
    st.builds(
        lambda size, part, delay: (
            "slicer",
            {"average_size": size, "size_variation": int(size * part), "delay": delay},
        ),
        st.integers(1, 200),
        st.floats(0, 0.99),
        st.integers(0, 50_000),
    ),
    st.builds(lambda delay: ("slow_close", {"delay": delay}), st.integers(0, 500)),
)
DEEDS = st.one_of(
    st.binary(max_size=2000).map(lambda data: ("feed", data)),
    st.tuples(st.just("add"), HARMLESS),
    st.integers(0, 5).map(lambda which: ("remove", which)),
    st.tuples(st.just("change"), st.integers(0, 5), HARMLESS),
    st.integers(0, 2000).map(lambda ms: ("wait", ms)),
)


@given(deeds=st.lists(DEEDS, max_size=30), seed=st.integers(0, 2**32))
def test_any_mix_of_harmless_toxics_keeps_the_stream(deeds: list[Any], seed: int) -> None:
    """Toxics come, change and go while data flow: every byte arrives, in order, then the end."""
    chain, now, numbers = Chain(), 0.0, 0
    present: dict[int, str] = {}
    sent, left = b"", list[tuple[float, Item]]()
    for what, *how in deeds:
        if what == "feed":
            sent += how[0]
            if present:
                chain.feed(how[0], now)
            else:
                left.append((now, how[0]))
        elif what == "add":
            kind, attributes = how[0]
            numbers += 1
            present[numbers] = kind
            chain.add(numbers, make(kind, now, seed, **attributes))
        elif what == "wait":
            now += how[0] / 1000
        elif present:
            number = sorted(present)[how[0] % len(present)]
            if what == "remove":
                del present[number]
                left += [(now, item) for item in chain.remove(number, now)]
            elif how[1][0] == present[number]:
                chain.change(number, attributes_of(*how[1]), now)
        left += [(now, item) for item in chain.advance(now, 100_000)]
    if present:
        chain.feed(End.FIN, now)
    else:
        left.append((now, End.FIN))
    left += run(chain, now + 1e6)
    assert data_of(left) == sent
    assert [item for _, item in left if isinstance(item, End)] == [End.FIN]
    assert left[-1][1] is End.FIN
    assert (chain.held, chain.dropped) == (0, 0)
