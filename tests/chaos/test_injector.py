"""Rules of faults: their grammar, their selection, and what each fault does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app import failpoints
from app.errors import GatewayTimeout, Indefinite, Poison
from app.failpoints import Hit, failpoint
from app.observability import metrics
from chaos import injector
from chaos.rules import BadRule, Rule, Selector, parse_rules

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
COMMIT = "delivery.after_commit"
OUTPUTS = "delivery.after_outputs"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    """No action outlives its test."""
    yield
    for name in failpoints.installed():
        failpoints.remove(name)


def install(rules: str) -> None:
    injector.install(cast(Any, SimpleNamespace(settings=SimpleNamespace(failpoints=rules))))


def hit(*keys: bytes) -> Hit:
    return Hit(COMMIT, [SimpleNamespace(key=key) for key in keys])


def selected(rule: Rule, hits: int) -> list[int]:
    selector = Selector(rule)
    return [number for number in range(1, hits + 1) if selector.strikes(hit())]


def test_rules_are_read_with_their_parameters() -> None:
    """Commas and newlines separate rules; blanks do not matter."""
    text = f"""
        {COMMIT} = crash ; nth=3, payment.before_call=delay:250ms;p=0.1;seed=7
        {COMMIT}=error:gateway_timeout;times=1;match=order-1
    """
    assert parse_rules(text) == [
        Rule(COMMIT, "crash", nth=3),
        Rule("payment.before_call", "delay", "250ms", p=0.1, seed=7),
        Rule(COMMIT, "error", "gateway_timeout", times=1, match=b"order-1"),
    ]
    assert parse_rules(" \n , ") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("crash", "expected failpoint=fault"),
        (f"{COMMIT}=", "expected failpoint=fault"),
        ("delivery.nowhere=crash", "unknown failpoint 'delivery.nowhere'; known: delivery."),
        (f"{COMMIT}=explode", "unknown fault 'explode'; known: crash, delay, error, hang"),
        (f"{COMMIT}=crash:now", "fault crash takes no argument, got 'now'"),
        (f"{COMMIT}=hang:5s", "fault hang takes no argument, got '5s'"),
        (f"{COMMIT}=delay", "a time like 250ms or 2s, got ''"),
        (f"{COMMIT}=delay:2m", "a time like 250ms or 2s, got '2m'"),
        (f"{COMMIT}=error:nonsense", "unknown error code 'nonsense'; known: "),
        (f"{COMMIT}=crash;often=2", "unknown parameter 'often'; known: nth, times"),
        (f"{COMMIT}=crash;nth=0", "nth must be a whole number from 1, got '0'"),
        (f"{COMMIT}=crash;times=x", "times must be a whole number from 1, got 'x'"),
        (f"{COMMIT}=crash;p=1.5", "p must be above 0 and at most 1, got '1.5'"),
        (f"{COMMIT}=crash;p=nan", "p must be above 0"),
        (f"{COMMIT}=crash;seed=a", "seed must be a whole number, got 'a'"),
        (f"{COMMIT}=crash;match=", "match must be a key, got ''"),
        (f"{COMMIT}=crash;nth=1;nth=2", "parameter nth is given twice"),
        (f"{OUTPUTS}=crash;match=a", f"no events pass {OUTPUTS}; match works at"),
    ],
)
def test_a_wrong_rule_says_what_is_wrong(text: str, complaint: str) -> None:
    """The message quotes the rule and names what is known."""
    with pytest.raises(BadRule) as caught:
        parse_rules(f"{COMMIT}=crash,{text}")
    assert complaint in str(caught.value)
    assert repr(text) in str(caught.value)


def test_nth_strikes_once_and_times_so_often() -> None:
    """nth selects one hit, times the first ones, neither all."""
    assert selected(Rule(COMMIT, "crash", nth=3), 10) == [3]
    assert selected(Rule(COMMIT, "crash", times=2), 10) == [1, 2]
    assert selected(Rule(COMMIT, "crash"), 3) == [1, 2, 3]


def test_a_probability_repeats_with_its_seed() -> None:
    """The same seed selects the same hits; another seed others; the rate is about p."""
    first = selected(Rule(COMMIT, "crash", p=0.2, seed=7), 2000)
    assert first == selected(Rule(COMMIT, "crash", p=0.2, seed=7), 2000)
    assert first != selected(Rule(COMMIT, "crash", p=0.2, seed=8), 2000)
    assert 300 < len(first) < 500


def test_match_strikes_while_an_event_with_the_key_passes() -> None:
    """Other events neither strike nor count as hits."""
    selector = Selector(Rule(COMMIT, "crash", match=b"b", nth=2))
    hits = [hit(b"a"), hit(b"a", b"b"), hit(), hit(b"c", b"b"), hit(b"b")]
    assert [selector.strikes(one) for one in hits] == [False, False, False, True, False]


async def test_an_error_is_raised_counted_and_ends() -> None:
    """`error` raises Indefinite or the named error at its point, so often as it may."""
    struck = metrics.FAULTS_INJECTED.child(COMMIT, "error")
    before = struck._value.get()
    install(f"{COMMIT}=error;nth=1,{COMMIT}=error:gateway_timeout;nth=2,{OUTPUTS}=error:poison")
    for expected in (Indefinite, GatewayTimeout):
        with pytest.raises(expected, match=f"injected at {COMMIT}"):
            await failpoint(COMMIT)
    await failpoint(COMMIT)
    with pytest.raises(Poison, match=f"injected at {OUTPUTS}"):
        await failpoint(OUTPUTS)
    assert struck._value.get() - before == 2


async def test_a_delay_holds_the_path_and_not_the_loop() -> None:
    """While one path is delayed, other tasks run."""
    install(f"{COMMIT}=delay:50ms")
    loop = asyncio.get_running_loop()
    began = loop.time()
    delayed = asyncio.create_task(failpoint(COMMIT))
    turns = 0
    while not delayed.done():
        await asyncio.sleep(0)
        turns += 1
    assert loop.time() - began >= 0.05
    assert turns > 10


async def test_a_hang_stands_until_it_is_removed() -> None:
    """The path does not go on while the fault is installed, and does once it is gone."""
    for let_go in (lambda: failpoints.remove(COMMIT), lambda: install(f"{COMMIT}=hang;nth=2")):
        install(f"{COMMIT}=hang;nth=1")
        hung = asyncio.create_task(failpoint(COMMIT))
        await failpoint(OUTPUTS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(hung), 0.1)
        let_go()
        await asyncio.wait_for(hung, 5)


def test_a_crash_leaves_no_reason(tmp_path: Path) -> None:
    """Exit code 137, no clean-up, no marker: the journal counts it as an unclean end."""
    program = (
        "import asyncio, pathlib\n"
        "from app.delivery import exits\n"
        "from app.failpoints import failpoint\n"
        "from chaos import injector, rules\n"
        f"exits.configure(pathlib.Path({str(tmp_path)!r}), 'w', 'i')\n"
        f"injector.arm(rules.parse_rules('{COMMIT}=crash'))\n"
        "try:\n"
        f"    asyncio.run(failpoint('{COMMIT}'))\n"
        "finally:\n"
        "    print('cleaned')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=ROOT, capture_output=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (137, b"")
    assert list(tmp_path.iterdir()) == []
