"""Finding Prometheus' programs, and getting them without root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.settings import load_settings
from chaos.lab.cli import make_plan
from chaos.lab.process import LabError
from chaos.observe import programs
from chaos.observe.install import PAUSE_S, install, install_in_tries, main
from chaos.observe.programs import NotInstalled, find
from tests.prometheus import REQUIRED
from tests.prometheus import program as required

pytestmark = pytest.mark.unit


def program(file: Path, says: str, *, returncode: int = 0) -> Path:
    """An executable that prints one line and ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\necho '{says}'\nexit {returncode}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The three places that are searched, all empty."""
    found = {name: tmp_path / name for name in ("setting", "path", "unpacked")}
    for place in found.values():
        place.mkdir()
    monkeypatch.setenv("SYMPHONY_OBSERVE_BIN_DIR", str(found["setting"]))
    monkeypatch.setenv("PATH", f"{found['path']}:/bin:/usr/bin")
    which = programs.shutil.which
    here = str(found["path"])
    monkeypatch.setattr(programs.shutil, "which", lambda name: which(name, path=here))
    monkeypatch.setattr(programs, "unpacked", lambda: found["unpacked"])
    programs.version_of.cache_clear()
    return found


GOOD = "prometheus, version 2.42.0+ds (branch: debian/sid)"


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        pytest.param(("setting", "path", "unpacked"), "setting", id="setting-first"),
        pytest.param(("path", "unpacked"), "path", id="then-path"),
        pytest.param(("unpacked",), "unpacked", id="then-unpacked"),
    ],
)
def test_where_programs_are_looked_for(
    places: dict[str, Path], present: tuple[str, ...], chosen: str
) -> None:
    """The setting's directory comes first, then PATH, then what `make observe` unpacked."""
    for place in present:
        program(places[place] / "prometheus", GOOD)
    assert find("prometheus") == places[chosen] / "prometheus"


@pytest.mark.parametrize(
    ("says", "returncode"),
    [
        pytest.param("prometheus, version 2.30.3", 0, id="too-old"),
        pytest.param("another program of that name", 0, id="another-program"),
        pytest.param(GOOD, 1, id="does-not-run"),
    ],
)
def test_a_program_that_will_not_do_is_passed_over(
    places: dict[str, Path], says: str, returncode: int
) -> None:
    """An old, foreign or broken program is not taken; the next place is asked."""
    program(places["path"] / "prometheus", says, returncode=returncode)
    with pytest.raises(NotInstalled) as caught:
        find("prometheus")
    assert str(places["path"] / "prometheus") in str(caught.value)
    good = program(places["unpacked"] / "prometheus", GOOD)
    assert find("prometheus") == good


def test_what_is_absent_is_said_with_the_way_to_get_it(places: dict[str, Path]) -> None:
    """The message names the packages and the target of make."""
    with pytest.raises(NotInstalled, match="apt install prometheus prometheus-alertmanager"):
        find("amtool")
    with pytest.raises(NotInstalled, match="make observe"):
        find("promtool")


def test_upstreams_name_of_alertmanager_is_known(places: dict[str, Path]) -> None:
    """Releases of prometheus.io call it `alertmanager`, as it calls itself."""
    found = program(places["setting"] / "alertmanager", "alertmanager, version 0.27.0 (branch: x)")
    assert find("prometheus-alertmanager") == found


APT = """#!/bin/sh
case "$*" in
*Dir::State::lists*update*) touch "{marker}"; exit 0 ;;
*download*) [ -e "{marker}" ] || {{ echo 'E: Unable to locate package' >&2; exit 100; }}
  touch prometheus_2.deb prometheus-alertmanager_0.deb ;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin"
for name in {names}; do
  says=$name; [ $name = prometheus-alertmanager ] && says=alertmanager
  printf '#!/bin/sh\\necho "%s, version 2.42.0"\\n' $says > "$3/usr/bin/$name"
  echo '# /usr/share/prometheus/alertmanager' >> "$3/usr/bin/$name"
  chmod +x "$3/usr/bin/$name"
done
mkdir -p "$3/usr/share/prometheus/alertmanager"
echo a template > "$3/usr/share/prometheus/alertmanager/default.tmpl"
"""


AWAY = """#!/bin/sh
echo x >> "{count}"
[ $(wc -l < "{count}") -gt 4 ] || {{ echo "E: Could not resolve 'deb.debian.org'" >&2; exit 100; }}
{apt}
"""


def fake_apt(places: dict[str, Path], names: str) -> None:
    """An apt-get that knows no package before its own update, and a dpkg that unpacks `names`."""
    bin_dir = places["path"]
    for name, text in (
        ("apt-get", APT.format(marker=places["path"] / "updated")),
        ("dpkg", DPKG.format(names=names)),
    ):
        (bin_dir / name).write_text(text)
        (bin_dir / name).chmod(0o755)


def test_packages_are_unpacked_with_lists_of_its_own(
    places: dict[str, Path], tmp_path: Path
) -> None:
    """Where the machine's package lists are missing, lists are fetched beside the download."""
    fake_apt(places, " ".join(programs.PROGRAMS))
    target = tmp_path / "share" / "observe"
    install(target, report=lambda _: None)
    assert {file.name for file in (target / "bin").iterdir()} == set(programs.PROGRAMS)
    template = target / "share" / "prometheus" / "alertmanager" / "default.tmpl"
    assert template.read_text() == "a template\n"
    alertmanager = (target / "bin" / "prometheus-alertmanager").read_text()
    assert "/usr/share/prometheus" not in alertmanager
    sought = alertmanager.splitlines()[-1].removeprefix("# ")
    assert (target / sought / "default.tmpl").resolve() == template.resolve()
    assert [file.name for file in target.parent.iterdir()] == ["observe"], "nothing else is left"


def test_half_a_package_installs_nothing(places: dict[str, Path], tmp_path: Path) -> None:
    """All programs or none: what was there before stays."""
    fake_apt(places, "prometheus promtool amtool")
    target = tmp_path / "share" / "observe"
    program(target / "bin" / "prometheus", GOOD)
    with pytest.raises(LabError, match="no program prometheus-alertmanager"):
        install(target, report=lambda _: None)
    assert [file.name for file in (target / "bin").iterdir()] == ["prometheus"]


def test_a_machine_without_apt_is_told_what_to_do(places: dict[str, Path], tmp_path: Path) -> None:
    """Elsewhere the message says how to get the programs by hand."""
    with pytest.raises(NotInstalled, match=r"no apt-get and dpkg.*observe_bin_dir"):
        install(tmp_path / "bin", report=lambda _: None)


def test_an_archive_that_is_away_for_a_moment_is_asked_again(
    places: dict[str, Path], tmp_path: Path
) -> None:
    """Two failures and a pause after each, then the programs; after the last try the reason."""
    names = " ".join(programs.PROGRAMS)
    fake_apt(places, names)
    apt = places["path"] / "apt-get"
    apt.write_text(AWAY.format(count=tmp_path / "count", apt=apt.read_text()))
    pauses: list[float] = []
    install_in_tries(tmp_path / "share" / "observe", 3, pauses.append)
    assert pauses == [PAUSE_S, PAUSE_S]
    assert (tmp_path / "share" / "observe" / "bin" / "promtool").is_file()
    (tmp_path / "count").unlink()
    with pytest.raises(LabError, match="Could not resolve"):
        install_in_tries(tmp_path / "other", 2, pauses.append)
    assert len(pauses) == 3


def test_a_machine_without_apt_is_not_asked_again(places: dict[str, Path], tmp_path: Path) -> None:
    """Another try would find no apt either."""
    with pytest.raises(NotInstalled):
        install_in_tries(tmp_path / "observe", 3, lambda _: pytest.fail("it waited"))


@pytest.mark.parametrize("tries", ["0", "x", "11"])
def test_a_number_of_tries_is_bounded(tries: str) -> None:
    """Bad input ends with argparse's exit code."""
    with pytest.raises(SystemExit, match="2"):
        main(["--tries", tries])


def test_what_lacks_prometheus_is_skipped_but_where_it_is_required(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A developer without network can test the rest; continuous integration cannot be green so."""
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="make observe"):
        required("promtool")
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match=r"REQUIRE_PROMETHEUS is 1.*make observe"):
        required("promtool")


@pytest.mark.parametrize(("there", "said"), [((), ""), (("apt-get", "dpkg"), "1")])
def test_continuous_integration_requires_prometheus_where_it_can_be_had(
    there: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """`.ci/run` insists with apt, and not on a machine without it."""
    for name, text in (("make", f'echo "[$@|${REQUIRED}]"'), *((one, "") for one in there)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("sh", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    run = Path(__file__).parents[2] / ".ci" / "run"
    done = subprocess.run(
        [run], check=False, env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == f"[test|{said}]", done.stderr


def all_programs(places: dict[str, Path], *, promtool: str = "promtool, version 2.42.0") -> None:
    """Programs that only tell their versions; promtool ends with 1 when it is to check rules."""
    program(places["setting"] / "prometheus", GOOD)
    says = "alertmanager, version 0.25.0"
    program(places["setting"] / "prometheus-alertmanager", says)
    tool = places["setting"] / "promtool"
    tool.write_text(
        f"#!/bin/sh\n[ $1 = --version ] && {{ echo '{promtool}'; exit 0; }}\n"
        "echo '  FAILED:' >&2; echo 'a.yml: 3:7: parse error' >&2; exit 1\n"
    )
    tool.chmod(0o755)


def test_a_lab_that_cannot_be_observed_is_refused_before_anything_starts(
    places: dict[str, Path], tmp_path: Path
) -> None:
    """Without the programs there is no plan; without --observe nobody looks for them."""
    assert make_plan(load_settings(lab_dir=tmp_path)).observe is None
    with pytest.raises(NotInstalled, match=r"no prometheus >= 2\.40"):
        make_plan(load_settings(lab_dir=tmp_path, lab_observe=True))


def test_rules_that_prometheus_would_refuse_are_refused_before(
    places: dict[str, Path], tmp_path: Path
) -> None:
    """A directory without rules, and a rule that promtool does not take: one line each."""
    all_programs(places)
    wanted = {"lab_dir": tmp_path, "lab_observe": True, "observe_rules_dir": str(tmp_path)}
    with pytest.raises(LabError, match="there are no rules"):
        make_plan(load_settings(**wanted))  # type: ignore[arg-type]
    (tmp_path / "a.yml").write_text("groups: [")
    with pytest.raises(LabError, match=r"a\.yml: 3:7: parse error"):
        make_plan(load_settings(**wanted))  # type: ignore[arg-type]


def test_workers_and_rules_agree_on_the_length_of_a_window(
    places: dict[str, Path], tmp_path: Path
) -> None:
    """A lab's workers get the time scale of its rules; another one needs rules of its own."""
    plan = make_plan(load_settings(lab_dir=tmp_path))
    assert plan.environment == {"SYMPHONY_SLO_TIME_SCALE": "60"}
    with pytest.raises(LabError, match="generated rules are for lab_slo_time_scale = 60, it is 30"):
        make_plan(load_settings(lab_dir=tmp_path, lab_observe=True, lab_slo_time_scale=30))


def test_scrapes_are_close_enough_for_the_windows_of_the_rules(
    places: dict[str, Path], tmp_path: Path
) -> None:
    """A rate over ten seconds finds nothing in scrapes that are five apart: no alert would fire."""
    all_programs(places)
    wanted: dict[str, Any] = {"lab_dir": tmp_path, "lab_observe": True}
    said = r"need observe_scrape_interval_s <= 2, it is 5: .* observe_rules_dir"
    with pytest.raises(LabError, match=said):
        make_plan(load_settings(**wanted, observe_scrape_interval_s=5))
    (places["setting"] / "promtool").write_text("#!/bin/sh\necho 'promtool, version 2.42.0'\n")
    plan = make_plan(load_settings(**wanted, observe_scrape_interval_s=2))
    assert plan.observe is not None
    (tmp_path / "own.yml").write_text("groups: []")
    own = load_settings(**wanted, observe_scrape_interval_s=5, observe_rules_dir=str(tmp_path))
    plan = make_plan(own)
    assert plan.observe is not None
    assert plan.observe.scrape_interval_s == 5


def test_an_observed_lab_counts_as_often_as_its_rules_need(
    places: dict[str, Path], tmp_path: Path
) -> None:
    """At 60 times the pace a census of every five seconds would miss an outage of ten."""
    all_programs(places)
    (places["setting"] / "promtool").write_text("#!/bin/sh\necho 'promtool, version 2.42.0'\n")
    plan = make_plan(load_settings(lab_dir=tmp_path, lab_observe=True))
    assert plan.observe is not None
    assert [Path(name).parent.name for name in plan.observe.rules] == ["rules-lab"] * 2
    assert plan.environment["SYMPHONY_CENSUS_INTERVAL_S"] == "1"
