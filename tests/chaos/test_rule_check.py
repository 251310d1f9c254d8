"""Facts about rules that may not be made, the short form by topic, and the chaos of the API."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from app.settings import load_settings
from app.topics import MESSAGE_TOPICS
from chaos.control import cloudcart
from chaos.control.bodies import TopicRuleIn, TopicRuleOut
from chaos.control.check import Known, Wrong, check, check_beside, roles_of
from chaos.control.cloudcart import Config, InjectIn, Latency
from chaos.control.rule import Rule, Scope
from chaos.control.topic_rules import ids_of, rules_of, short_forms
from chaos.faults.kinds import KINDS, UNSAFE_TO_LOSE

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = load_settings(role="web", chaos_rule_ttl_max_s=100.0, chaos_share_max=0.5)
KNOWN = Known(KINDS, UNSAFE_TO_LOSE, frozenset({"/api/orders"}))
TOPIC = "payment.requested"


def rule(rule_id: str = "r1", **changes: Any) -> Rule:
    """A rule that may be made."""
    values = {"id": rule_id, "fault": "delay", "share_max": 0.5, "ttl_s": 60.0}
    return Rule(**{**values, "expires_at": NOW + timedelta(seconds=60), **changes})


def test_every_kind_makes_a_rule_by_its_defaults() -> None:
    """None of them needs a parameter."""
    for name in KINDS:
        assert check(rule(fault=name), KNOWN, SETTINGS, NOW) == ""


@pytest.mark.parametrize(
    ("changes", "pointer", "complaint"),
    [
        ({"fault": "explode"}, "$.fault", "unknown fault 'explode'; known: corrupt"),
        ({"params": {"min_ms": -1}}, "$.params", "min_ms"),
        ({"params": {"min_ms": 9, "max_ms": 1}}, "$.params", "max_ms"),
        ({"params": {"odd": 1}}, "$.params", "odd"),
        ({"expires_at": NOW}, "$.expiresAt", "over already"),
        ({"expires_at": NOW + timedelta(seconds=101)}, "$.ttlS", "chaos_rule_ttl_max_s = 100"),
        ({"share_max": 0.6}, "$.shareMax", "chaos_share_max = 0.5"),
        ({"nth": 2, "times": 2}, "$.times", "nth strikes once"),
        ({"scope": Scope(roles=("cook",))}, "$.scope.roles", "unknown role 'cook'"),
        ({"scope": Scope(roles=("web",))}, "$.scope.roles", "does not show in role web"),
        ({"scope": Scope(topic="order.cooked")}, "$.scope.topic", "unknown topic"),
        ({"scope": Scope(topic="retry.1s")}, "$.scope.topic", "cannot be struck"),
        ({"scope": Scope(topic="chaos.injected")}, "$.scope.topic", "cannot be struck"),
        ({"scope": Scope(type="order.cooked.v1")}, "$.scope.type", "unknown type"),
        ({"scope": Scope(step="cooking")}, "$.scope.step", "unknown step"),
        ({"scope": Scope(route="/api/orders")}, "$.scope.route", "delay knows no route"),
        ({"scope": Scope(point="nowhere")}, "$.scope.point", "unknown point"),
        (
            {"scope": Scope(topic="order.created", step="payment")},
            "$.scope",
            "nothing in common",
        ),
        (
            {"fault": "http_error", "scope": Scope(route="/api/cooks")},
            "$.scope.route",
            "unknown route",
        ),
        ({"fault": "http_error", "params": {"status": 200}}, "$.params", "status"),
    ],
)
def test_a_wrong_rule_is_refused_with_the_member(
    changes: dict[str, Any], pointer: str, complaint: str
) -> None:
    """Everything that can be known to be wrong, before anything is published."""
    with pytest.raises(Wrong) as caught:
        check(rule(**changes), KNOWN, SETTINGS, NOW)
    assert caught.value.pointer == pointer
    assert complaint in caught.value.detail
    assert not caught.value.conflict


@pytest.mark.parametrize("fault", [kind.name for kind in KINDS.values() if kind.loses])
@pytest.mark.parametrize("topic", ["order.created", "order.cancel", "order.reviewed"])
def test_what_nobody_sends_again_is_lost_only_on_demand(fault: str, topic: str) -> None:
    """`unsafe: true` lets it, and the answer says what the audit will say."""
    wanted = rule(fault=fault, scope=Scope(topic=topic))
    with pytest.raises(Wrong, match="unsafe: true") as caught:
        check(wanted, KNOWN, SETTINGS, NOW)
    assert caught.value.pointer == "$.unsafe"
    allowed = msgspec.structs.replace(wanted, unsafe=True)
    assert "the audit will report it lost" in check(allowed, KNOWN, SETTINGS, NOW)
    safe = rule(fault=fault, scope=Scope(topic=TOPIC))
    assert check(safe, KNOWN, SETTINGS, NOW) == ""


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        ({"fault": "error"}, {"fault": "timeout"}, True),
        ({"fault": "error", "p": 0.3}, {"fault": "timeout", "p": 0.2}, False),
        ({"fault": "error", "nth": 3}, {"fault": "timeout"}, False),
        ({"fault": "drop"}, {"fault": "duplicate"}, False),
        ({"fault": "delay"}, {"fault": "delay"}, True),
        (
            {"fault": "delay", "scope": Scope(topic=TOPIC)},
            {"fault": "delay", "scope": Scope(topic="payment.refund")},
            False,
        ),
        (
            {"fault": "delay", "scope": Scope(step="payment")},
            {"fault": "delay", "scope": Scope(topic="payment.result")},
            True,
        ),
        (
            {"fault": "cpu_burn", "scope": Scope(roles=("payment",))},
            {"fault": "cpu_burn", "scope": Scope(roles=("shipping",))},
            False,
        ),
        ({"fault": "http_error", "p": 0.6}, {"fault": "http_timeout", "p": 0.6}, True),
        ({"fault": "http_error", "p": 0.4}, {"fault": "http_timeout", "p": 0.6}, False),
        ({"fault": "http_error"}, {"fault": "http_latency"}, False),
    ],
)
def test_two_rules_that_cannot_both_have_their_way_are_in_conflict(
    one: dict[str, Any], other: dict[str, Any], conflict: bool
) -> None:
    """Both ways round; a rule's own older version is never in its way."""
    first, second = rule("r1", **one), rule("r2", **other)
    for new, old in ((first, second), (second, first)):
        if conflict:
            with pytest.raises(Wrong, match=f"rule {old.id} ") as caught:
                check_beside(new, [old], KINDS)
            assert caught.value.conflict
        else:
            check_beside(new, [old], KINDS)
    check_beside(first, [msgspec.structs.replace(second, id="r1")], KINDS)


def test_a_rule_is_meant_for_the_roles_that_can_show_it() -> None:
    """Named or not."""
    assert roles_of(rule(fault="http_error"), KINDS["http_error"]) == ("web",)
    assert "web" not in roles_of(rule(), KINDS["delay"])
    named = rule(scope=Scope(roles=("payment",)))
    assert roles_of(named, KINDS["delay"]) == ("payment",)


def test_a_short_form_is_a_rule_for_each_of_its_members() -> None:
    """And comes back from its rules as it was."""
    short = TopicRuleIn(p_drop=0.1, p_dup=0.2, max_delay_ms=1200.0, p_corrupt=0.05)
    wanted = rules_of(TOPIC, short)
    assert {one.id for one in wanted} == set(ids_of(TOPIC))
    made = [
        rule(str(one.id), fault=one.fault, scope=one.scope, p=one.p, params=one.params)
        for one in wanted
    ]
    for number, one in enumerate(made):
        assert check(one, KNOWN, SETTINGS, NOW) == ""
        check_beside(one, made[:number], KINDS)
    assert short_forms(made) == {
        TOPIC: TopicRuleOut(p_drop=0.1, p_dup=0.2, max_delay_ms=1200.0, p_corrupt=0.05)
    }
    assert rules_of(TOPIC, TopicRuleIn()) == []


def test_every_message_topic_takes_a_short_form_that_loses_nothing() -> None:
    """Doubling and delay are safe everywhere."""
    for topic in set(MESSAGE_TOPICS) - {"chaos.injected"}:
        for one in rules_of(topic, TopicRuleIn(p_dup=0.5, max_delay_ms=10.0)):
            made = rule(str(one.id), fault=one.fault, scope=one.scope, p=one.p, params=one.params)
            assert check(made, KNOWN, SETTINGS, NOW) == ""


def test_a_configuration_of_the_api_is_three_rules_that_go_together() -> None:
    """None while it is not enabled, none for a share of 0."""
    assert cloudcart.rules_of(Config()) == []
    wanted = cloudcart.rules_of(Config(enabled=True))
    assert {one.id: one.p for one in wanted} == {
        "http-latency": 0.25,
        "http-error": 0.1,
        "http-timeout": 0.05,
    }
    made = [rule(str(one.id), fault=one.fault, p=one.p, params=one.params) for one in wanted]
    for number, one in enumerate(made):
        assert check(one, KNOWN, SETTINGS, NOW) == ""
        check_beside(one, made[:number], KINDS)
    calm = Config(enabled=True, error_rate=0.0, timeout_rate=0.0, latency=Latency(probability=0.0))
    assert cloudcart.rules_of(calm) == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b'{"latency": {"min": 200, "max": 100}}', "min 200 is above max 100"),
        (b'{"latency": {"min": 4000}}', "min 4000 is above max 3000"),
        (b'{"latency": {"max": 5001}}', "<= 5000"),
        (b'{"errorStatus": 499}', "499 is no HTTP status"),
        (b'{"errorStatus": 200}', ">= 400"),
    ],
)
def test_an_impossible_configuration_is_refused_whether_enabled_or_not(
    body: bytes, complaint: str
) -> None:
    """Else it would be kept, and refused when it is enabled, where nothing can be mended."""
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.json.decode(body, type=Config)


def test_an_injection_is_one_rule_and_chance_reaches_all_three() -> None:
    """What is random is decided by luck alone."""
    given = InjectIn(probability=0.5, duration_s=5.0)
    found = {cloudcart.injected("random", given, luck).fault for luck in (0.0, 0.4, 0.99)}
    assert found == {"http_latency", "http_error", "http_timeout"}
    late = cloudcart.injected("latency", given, 0.0)
    assert (late.p, late.ttl_s, late.params) == (0.5, 5.0, {"min_ms": 100.0, "max_ms": 3000.0})


def test_kinds_exclude_each_other_both_ways() -> None:
    """A conflict that only one of two kinds declares is one as well."""
    drop, delay = KINDS["drop"], KINDS["delay"]
    one_sided = {
        "drop": replace(drop, conflicts=frozenset({"delay"})),
        "delay": replace(delay, conflicts=frozenset()),
    }
    with pytest.raises(Wrong):
        check_beside(rule("a"), [rule("b", fault="drop")], one_sided)
