"""What a message costs more because chaos rules could be made, while there is none.

Each product function that asks a tap is timed as it is and as the same source with its taps taken
out, on fakes of what it calls. The difference is what the taps cost there: whatever somebody puts
into one of them is in it. A tap that cannot be found or taken out is an error, never a zero.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import msgspec

from app.db.engine import Transaction
from app.delivery.consumer import Consumer
from app.delivery.step import ConsumerSpec, Step
from app.failpoints import installed
from app.messages.envelope import Output
from app.relay.rounds import Rounds
from app.roles import ROLES
from app.taps import Taps
from chaos.control.in_force import InForce
from chaos.control.rule import Rule
from chaos.faults.kinds import KINDS

NAMES = frozenset({"taps", "_taps"})
TOPIC = "payment.requested"
BATCH = 50
"""Messages of a batch: its one look at what it reads is shared by them."""
ROUND_TRIPS = 3
"""To PostgreSQL for one batch."""
TURNS = 20
RULES = ("drop", "duplicate", "pause", "db_latency")
"""A fault kind for each tap."""


class NotTakenOut(ValueError):
    """A function has no tap, or one that cannot be taken out: this bench has to learn it."""


def without_taps(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled from its own source without what asks a tap. Raises NotTakenOut."""
    taker = _Taker()
    tree = taker.visit(ast.parse(textwrap.dedent(inspect.getsource(function))))
    if not taker.taken or _asks(tree):
        raise NotTakenOut(f"{function.__qualname__}: its taps cannot be taken out")
    found: dict[str, Any] = {}
    code = compile(ast.fix_missing_locations(tree), inspect.getfile(function), "exec")
    exec(code, function.__globals__, found)
    return cast("Callable[..., Any]", found[function.__name__])


def _asks(node: ast.AST) -> bool:
    names = (
        one.id if isinstance(one, ast.Name) else one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Name | ast.Attribute)
    )
    return not NAMES.isdisjoint(names)


class _Taker(ast.NodeTransformer):
    """Takes out the three ways in which a tap is asked, and the names that are given to one."""

    def __init__(self) -> None:
        self.taken = 0

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """`asked if taps.x else plain` is `plain`."""
        if not _asks(node.test):
            return self.generic_visit(node)
        self.taken += 1
        return cast("ast.AST", self.visit(node.orelse))

    def visit_If(self, node: ast.If) -> Any:
        """`if taps.x: asked` is nothing."""
        if not _asks(node.test):
            return self.generic_visit(node)
        self.taken += 1
        return [self.visit(one) for one in node.orelse] or ast.Pass()

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """`other and taps.x` is `other`."""
        rest = [one for one in node.values if not _asks(one)]
        if not isinstance(node.op, ast.And) or len(rest) in (0, len(node.values)):
            return self.generic_visit(node)
        self.taken += 1
        return rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)

    def visit_Assign(self, node: ast.Assign) -> Any:
        """`taps = self.taps` is nothing; in `count, taps = 0, self.taps` only `count` stays."""
        (target,) = node.targets
        if not _asks(target):
            return self.generic_visit(node)
        if not isinstance(target, ast.Tuple) or not isinstance(node.value, ast.Tuple):
            return ast.Pass()
        pairs = zip(target.elts, node.value.elts, strict=True)
        return [ast.Assign([left], right) for left, right in pairs if not _asks(left)]


class Partition(NamedTuple):
    """What a consumer polls."""

    topic: str
    partition: int


class Place(NamedTuple):
    """A function that asks a tap, a call of it on fakes, and how many messages share a call."""

    function: Callable[..., Any]
    call: Callable[[Callable[..., Any], Taps], Callable[[], Any]]
    messages: float


async def _nothing(*_: Any) -> None:
    """In place of a server, or of what comes after."""


def _polling(function: Callable[..., Any], taps: Taps) -> Callable[[], Any]:
    consumer = SimpleNamespace(
        app=SimpleNamespace(taps=taps),
        _pending={},
        released=True,
        is_batch=lambda _: True,
        _channel=lambda _: None,
    )
    return partial(function, consumer, {Partition(TOPIC, number) for number in range(4)})


def _step(taps: Taps) -> SimpleNamespace:
    return SimpleNamespace(
        _app=SimpleNamespace(taps=taps, clock=SimpleNamespace(now=lambda: None)),
        _spec=ConsumerSpec("payment", (TOPIC,), None, None, {}, raw=True),
        _observe=lambda *_: None,
        _finish=_nothing,
    )


def _reading(function: Callable[..., Any], taps: Taps) -> Callable[[], Any]:
    return partial(function, _step(taps), ())


def _asking(function: Callable[..., Any], taps: Taps) -> Callable[[], Any]:
    transaction = SimpleNamespace(
        _taps=taps,
        _check_open=lambda: None,
        _connection=SimpleNamespace(run=_nothing),
        _queued=[],
        _begun=True,
        _observed=False,
    )
    return partial(function, transaction, [b"select 1"], begin=False)


def _sending(function: Callable[..., Any], taps: Taps) -> Callable[[], Any]:
    one = SimpleNamespace(outputs=(Output(TOPIC, b"k", b"{}", []),), key=b"k", partition=0)
    return partial(function, _step(taps), SimpleNamespace(add=_nothing), [one] * BATCH)


def _publishing(function: Callable[..., Any], taps: Taps) -> Callable[[], Any]:
    row = SimpleNamespace(aggregate_id="k", output=Output(TOPIC, b"k", b"{}", []))
    out = SimpleNamespace(add=_nothing, flush=_nothing)
    rounds = SimpleNamespace(_taps=taps, _outlet=SimpleNamespace(open=lambda: out))
    return partial(function, rounds, [row] * BATCH, [])


PLACES = (
    Place(Consumer._wanted, _polling, BATCH),
    Place(Step._run_records, _reading, BATCH),
    Place(Transaction._send, _asking, BATCH / ROUND_TRIPS),
    Place(Step._add_outputs, _sending, BATCH),
    Place(Rounds._publish, _publishing, BATCH),
)


def used() -> Taps:
    """The taps of a payment worker on which the plug-in had rules in force, and has none now."""
    taps = Taps()
    app = SimpleNamespace(
        taps=taps,
        role=ROLES["payment"],
        batch_topics={TOPIC},
        settings=SimpleNamespace(worker_id="payment-1", chaos_rules_max=len(RULES)),
    )
    rules = InForce(cast("Any", app), KINDS, lambda *_: SimpleNamespace(cancel=lambda: None))
    ends = datetime.now(UTC) + timedelta(hours=1)
    for number, fault in enumerate(RULES):
        rule = Rule(id=fault, fault=fault, ttl_s=3600, expires_at=ends)
        if refused := rules.apply(fault, msgspec.json.encode(rule), number):
            raise NotTakenOut(f"{fault}: {refused}")
    if not (taps.incoming and taps.outgoing and taps.statements and taps.paused):
        raise NotTakenOut("a tap without a rule: choose other kinds")
    for number, fault in enumerate(RULES):
        rules.apply(fault, None, len(RULES) + number)
    return taps


def off_us(passes: int) -> dict[str, float]:
    """CPU microseconds that the taps cost one message, by the function where they stand.

    `passes` are messages; with and without taps take turns, so that both see the same machine.
    """
    logging.getLogger("chaos").setLevel(logging.CRITICAL)
    assert not installed()
    return asyncio.run(_all_us(passes))


async def _all_us(passes: int) -> dict[str, float]:
    taps = used()
    return {one.function.__qualname__: await _difference_us(one, taps, passes) for one in PLACES}


async def _difference_us(place: Place, taps: Taps, passes: int) -> float:
    with_taps = place.call(place.function, taps)
    without = place.call(without_taps(place.function), taps)
    waits = inspect.iscoroutinefunction(place.function)
    calls = max(1, round(passes / place.messages / TURNS))
    spent = [0.0, 0.0]
    for _ in range(TURNS):
        for which, call in enumerate((with_taps, without)):
            began = time.process_time()
            for _ in range(calls):
                if waits:
                    await call()
                else:
                    call()
            spent[which] += time.process_time() - began
    return (spent[0] - spent[1]) / (calls * TURNS * place.messages) * 1e6
