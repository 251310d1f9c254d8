"""Experiment files: the catalogue is valid by Chaos Toolkit and by us; mistakes are shown."""

from __future__ import annotations

import contextlib
import copy
import re
from pathlib import Path

import pytest
import yaml
from chaoslib.experiment import ensure_experiment_is_valid
from chaoslib.loader import load_experiment
from typer.testing import CliRunner

from chaos.gameday import catalogue, reference
from chaos.gameday.command import gameday
from chaos.gameday.experiment import Knobs
from chaos.gameday.parse import load, of_data
from chaos.gameday.source import BYTES_MAX, Mistake
from chaos.lab.process import LabError
from chaos.observe.alerts import ALERTS

pytestmark = pytest.mark.unit
SAMPLE = (catalogue.DIRECTORY / "kill-payment.yaml").read_text()


@pytest.mark.parametrize("name", catalogue.names())
def test_the_catalogue_is_valid_for_chaos_toolkit_and_for_us(name: str) -> None:
    """Both validators take every file, as Chaos Toolkit itself loads it."""
    found = catalogue.shipped(name)
    data = load_experiment(str(found.path))
    ensure_experiment_is_valid(data)
    assert data == found.data
    assert found.plan()
    assert all(0 <= one.begins_s < found.knobs.duration_s for one in found.plan())


def test_same_seed_same_plan_and_digest() -> None:
    """A plan is a function of file and knobs; another seed is another digest."""
    one, same = catalogue.shipped("kill-payment"), catalogue.shipped("kill-payment")
    assert (one.plan(), one.digest) == (same.plan(), same.digest)
    assert one.with_overrides({"seed": 9}).digest != one.digest
    shorter = one.with_overrides({"duration_s": one.knobs.duration_s / 2, "rate_per_s": None})
    assert [2 * strike.begins_s for strike in shorter.plan()] == [
        strike.begins_s for strike in one.plan()
    ]


def test_chaos_toolkit_may_give_texts_for_knobs() -> None:
    """`chaos run --var rate_per_s=30` hands over a text."""
    data = yaml.safe_load(SAMPLE)
    found = of_data(data, {"rate_per_s": "30", "seed": 4, "theirs": "x"})
    assert (found.knobs.rate_per_s, found.knobs.seed) == (30.0, 4)
    with pytest.raises(Mistake, match="rate_per_s"):
        of_data(data, {"rate_per_s": "much"})


def line_of(text: str, fragment: str) -> int:
    """The line that holds `fragment`, from 1."""
    lines = text.splitlines()
    if fragment in lines:
        return lines.index(fragment) + 1
    return next(at for at, line in enumerate(lines, 1) if fragment in line)


@pytest.mark.parametrize(
    ("old", "new", "where", "reason"),
    [
        ("fault: kill,", "fault: kil,", "fault: kil,", "unknown fault 'kil'"),
        ("at: 0.2", "at: 1.2", "at: 1.2", "share of the duration"),
        ("at: 0.2", "at: soon", "at: soon", "share of the duration"),
        ("at: 0.2", "for_s: -1", "for_s: -1", "for_s"),
        ("at: 0.2", "params: {speed: 9}", "speed", "kill has no parameter speed"),
        ("at: 0.2", "params: 3", "params: 3", "a mapping"),
        ("target: payment-1", "tarjet: payment-1", "tarjet", "tarjet"),
        ("func: inject", "func: infect", "func: infect", "infect"),
        ("rate_per_s: 20", "rate_per_s: fast", "rate_per_s: fast", "rate_per_s"),
        ("rate_per_s: 20", "rate_per_s: 0", "rate_per_s: 0", "rate_per_s"),
        ("seed: 1", "sead: 1", "sead: 1", "sead: unknown"),
        ("expected: passed", "expected: fine", "expected: fine", "expected"),
        ("orders_min: 200", "orders_mim: 200", "orders_mim", "orders_mim"),
        ("stuck_max: 50", "stuck_mad: 50", "stuck_mad", "stuck_mad"),
        ("stuck_max: 50", "every_s: 0", "every_s: 0", "every_s"),
        ("strategy: always", "strategy: default", "strategy: default", "must be always"),
        ("orders_min: 200", "mix: {glad: 3}", "mix: {glad", "mix.glad: unknown"),
        ("orders_min: 200", "mix: {happy: 0}", "mix: {happy", "not all shares"),
        ("orders_min: 200", "mix: {happy: -1}", "mix: {happy", "mix"),
        ("    background: true\n", "", "kill the payment worker", "needs background"),
        ("chaos.gameday.control", "chaos.gameday.controll", "controls:", "controls"),
        ("func: end_faults", "func: recover", "rollbacks:", "end_faults"),
        ("func: hold", "func: recover", "method:", "hold once"),
        ("title: A payment", "subtitle: A payment", "subtitle", "title"),
        ("name: chaos-symphony", "name: other", "extensions:", "no extension"),
        ("rate_per_s: 20", "rate_per_s: 20\n  rate_per_s: 30", "rate_per_s: 30", "twice"),
        ("rate_per_s: 20", "rate_per_s: [", "duration_s", "not YAML"),
        ("rate_per_s: 20", "rate_per_s: *x", "*x", "aliases"),
    ],
)
def test_a_mistake_is_shown_with_its_line(old: str, new: str, where: str, reason: str) -> None:
    """The line is that of the mistake, the reason names it."""
    assert old in SAMPLE
    text = SAMPLE.replace(old, new)
    with pytest.raises(Mistake) as caught:
        load(Path("x.yaml"), text)
    assert reason in caught.value.reason, caught.value
    lines = text.splitlines()
    near = range(line_of(text, where) - 1, line_of(text, where) + 2)
    assert caught.value.line in near, (caught.value, lines[caught.value.line - 1])
    assert str(caught.value).startswith(f"x.yaml:{caught.value.line}: ")


@pytest.mark.parametrize(
    "text", ["", "[]", "a: b", "3", "title: [1", "\0", "!!python/object:os.system {}", "a: &x 1"]
)
def test_junk_is_refused_in_one_line(text: str) -> None:
    """Whatever it is, it is a Mistake, never a crash."""
    with pytest.raises(Mistake) as caught:
        load(Path("x.yaml"), text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", list(yaml.safe_load(SAMPLE)))
@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [3], [None], {"a": {}}])
def test_any_key_may_hold_anything(key: str, value: object) -> None:
    """A file with junk at any of its keys is either valid or a Mistake."""
    data = copy.deepcopy(yaml.safe_load(SAMPLE))
    data[key] = value
    with contextlib.suppress(Mistake):
        load(Path("x.yaml"), yaml.safe_dump(data))


RULE = SAMPLE.replace("func: inject", "func: chaos_rule").replace(
    "{fault: kill, target: payment-1, at: 0.2}",
    "{fault: delay, scope: {topic: payment.requested}, p: 0.3, at: 0.2, for_s: 5}",
)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("fault: delay", "fault: dalay", "unknown fault 'dalay'"),
        ("p: 0.3", "p: 1.3", "<= 1"),
        ("p: 0.3", "params: {min_ms: 9, max_ms: 3}", ""),
        ("payment.requested}", "payment.requested.dlt}", "payment.requested.dlt"),
        ("topic: payment.requested", "route: /api/orders", "knows no route"),
        ("topic: payment.requested", "colour: red", "colour"),
        ("fault: delay, scope: {topic: payment.requested}",
         "fault: drop, scope: {topic: order.created}", "lost for ever"),
        ("for_s: 5", "for_s: -5", "for_s"),
    ],
)  # fmt: skip
def test_a_chaos_rule_that_the_api_would_refuse_is_a_mistake(
    old: str, new: str, reason: str
) -> None:
    """The same checks as the API's, before anything begins."""
    assert load(Path("x.yaml"), RULE).plan()
    assert old in RULE
    with pytest.raises(Mistake) as caught:
        load(Path("x.yaml"), RULE.replace(old, new))
    assert reason in caught.value.reason
    assert caught.value.line == line_of(RULE, "arguments: {fault")


EXAM = """    alerts:
      - {name: WorkerDown, within_s: 5, resolves_within_s: 30, fault: kill the payment worker}
      - {name: SloBurnFast, within_s: 20}
    tolerated: [ConsumerLag]
    silent: [DeadLettersGrow]
    exam: required
"""
ASKED = r"    (alerts|no_alerts_because|tolerated|silent):.*\n(      .*\n)*"
ASKING = re.sub(ASKED, "", SAMPLE).replace("    orders_min: 200\n", f"    orders_min: 200\n{EXAM}")


def test_an_experiment_says_which_alerts_it_expects() -> None:
    """The questions of the exam as the file asks them."""
    sheet = load(Path("x.yaml"), ASKING).ours.sheet
    assert sheet is not None
    assert [(one.name, one.within_s, one.resolves_within_s) for one in sheet.expected] == [
        ("WorkerDown", 5, 30),
        ("SloBurnFast", 20, None),
    ]
    assert (sheet.tolerated, sheet.silent) == ({"ConsumerLag"}, ("DeadLettersGrow",))


@pytest.mark.parametrize(
    ("old", "new", "where", "reason"),
    [
        ("name: SloBurnFast", "name: SloBurnFsat", "SloBurnFsat", "no alert 'SloBurnFsat'; known:"),
        ("[ConsumerLag]", "[ConsumerLog]", "ConsumerLog", "ConsumerLag"),
        ("[DeadLettersGrow]", "[Dead Letters]", "silent:", "silent"),
        ("within_s: 20", "within_s: 0", "within_s: 0", "within_s"),
        ("within_s: 20", "within: 20", "within: 20", "within"),
        ("within_s: 20", "resolves_within_s: 20", "SloBurnFast", "within_s"),
        ("within_s: 20", "within_s: soon", "within_s: soon", "within_s"),
        ("fault: kill the", "fault: kills the", "kills the", "the method has no fault"),
        ("name: SloBurnFast", "name: WorkerDown, fault: kill the payment worker",
         "within_s: 20", "WorkerDown is expected twice"),
        ("[ConsumerLag]", "[WorkerDown]", "tolerated:", "is expected and tolerated"),
        ("[DeadLettersGrow]", "[WorkerDown]", "silent:", "is expected and silent"),
        ("[DeadLettersGrow]", "[ConsumerLag]", "silent:", "is tolerated and silent"),
        ("exam: required", "exam: strict", "exam: strict", "exam"),
        ("    alerts:", "    alarms:", "alarms:", "alarms"),
        ("exam: required", "no_alerts_because: x", "no_alerts_because", "there are alerts"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_exam_is_shown_with_its_line(
    old: str, new: str, where: str, reason: str
) -> None:
    """Unknown alerts and faults, impossible bounds, questions that contradict each other."""
    assert ASKING.count(old) == 1
    text = ASKING.replace(old, new)
    with pytest.raises(Mistake) as caught:
        load(Path("x.yaml"), text)
    assert reason in caught.value.reason, caught.value
    assert caught.value.line == line_of(text, where)


def test_an_exam_that_is_required_asks_something() -> None:
    """Nothing can be passed that asks nothing."""
    for asked in ("", "    alerts: []\n", "    alerts: []\n    tolerated: [ConsumerLag]\n"):
        text = ASKING.replace(EXAM, f"{asked}    exam: required\n")
        with pytest.raises(Mistake, match="no alerts are expected"):
            load(Path("x.yaml"), text)


def test_a_file_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    """Both are said with their reason."""
    with pytest.raises(Mistake, match="cannot be read"):
        load(tmp_path / "none.yaml")
    large = tmp_path / "large.yaml"
    large.write_text("#" * (BYTES_MAX + 1))
    with pytest.raises(Mistake, match="at most"):
        load(large)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "kill-payment"], "no lab runs in"),
        (["run", "no-such"], "unknown experiment 'no-such'"),
        (["run", "kill-payment", "--rate", "0.1"], "rate_per_s"),
        (["validate", "no-such"], "known: "),
    ],
)
def test_what_cannot_begin_is_said_in_one_line(words: list[str], told: str, tmp_path: Path) -> None:
    """Exit code 2 and nothing on standard output."""
    place = [] if words[0] == "validate" else ["--lab-dir", str(tmp_path)]
    done = CliRunner().invoke(gameday, [*words, *place])
    assert done.exit_code == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


@pytest.mark.parametrize(
    "words", [["ls"], ["status"], ["abort"], ["report"], ["compare", "a", "b"]]
)
def test_what_asks_a_lab_fails_alike_without_one(words: list[str], tmp_path: Path) -> None:
    """The command line makes one line and exit code 1 of it (app.cli)."""
    done = CliRunner().invoke(gameday, [*words, "--lab-dir", str(tmp_path)])
    assert isinstance(done.exception, LabError)
    assert "no lab runs in" in str(done.exception)


def test_every_knob_has_a_default() -> None:
    """A file may leave out all of them."""
    data = yaml.safe_load(SAMPLE)
    del data["configuration"]
    assert load(Path("x.yaml"), yaml.safe_dump(data)).knobs == Knobs()


def test_the_published_catalogue_is_the_shipped_one() -> None:
    """`python -m chaos.gameday.reference > docs/reference/gamedays.md` would change nothing."""
    published = Path(__file__).parents[2] / "docs" / "reference" / "gamedays.md"
    assert published.read_text() == reference.page()


def test_the_catalogue_covers_the_scenarios_of_the_references() -> None:
    """Each of the scenarios that the reference systems name has an experiment."""
    told = " / ".join(catalogue.shipped(name).ours.scenario for name in catalogue.names())
    wanted = (
        "consumer killed", "duplicate events", "broker restart", "network latency", "node killed",
        "partition", "artificial latency", "lost event", "phantom event", "consumer lag",
        "ordering under errors", "administration under chaos", "double charge", "abort condition",
    )  # fmt: skip
    assert [scenario for scenario in wanted if scenario not in told] == []
    assert len(catalogue.names()) >= 12


@pytest.mark.parametrize("name", catalogue.names())
def test_each_experiment_asks_for_an_alert_or_says_why_not(name: str) -> None:
    """And names alerts that must stay silent, so that no exam of the catalogue is empty."""
    ours = catalogue.shipped(name).ours
    assert ours.sheet is not None
    assert bool(ours.alerts) != bool(ours.no_alerts_because)
    assert ours.silent


def test_an_experiment_on_the_network_says_that_it_needs_the_proxy() -> None:
    """Without that it would run, and be void, in a lab that has none."""
    for name in catalogue.names():
        found = catalogue.shipped(name)
        proxied = any(str(one.arguments.get("target")).endswith("-proxy") for one in found.plan())
        assert ("proxy" in found.ours.needs) == proxied, name


def test_no_alert_is_tolerated_in_the_whole_catalogue() -> None:
    """What may fire everywhere could never be marked wrong; a page must be forbidden somewhere."""
    all_ours = [catalogue.shipped(name).ours for name in catalogue.names()]
    assert not frozenset.intersection(*(frozenset(ours.tolerated) for ours in all_ours))
    asked = {name for ours in all_ours if ours.sheet for name in ours.sheet.asked}
    for page in (one for one in ALERTS if one.severity == "page"):
        tolerated = sum(page.name in ours.tolerated for ours in all_ours)
        assert 2 * tolerated <= len(all_ours), f"{page.name} is tolerated in {tolerated}"
    assert {"SloBurnFast", "SloBurnSlow", "RoleAbsent", "OutboxLag", "DatabaseSlow"} <= asked
