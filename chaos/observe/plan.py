"""What `symphony up --observe` starts, decided before anything is started."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from app.settings import Settings
from chaos.lab.process import LabError
from chaos.observe.programs import find
from chaos.observe.scale import LAB

RULES = Path(__file__).parents[2] / "docker" / "prometheus" / "rules-lab"
"""The generated rules of a lab: their windows are shorter by `scale.LAB.factor`."""
CHECK_S = 30.0
CENSUS_MIN_S = 1.0
LOOKBACK_INTERVALS = 5
LOOKBACK_MIN_S = 5.0


class Observe(msgspec.Struct, frozen=True, kw_only=True):
    """Prometheus and Alertmanager of one lab. Ports that are 0 are chosen free."""

    prometheus: Path
    alertmanager: Path
    rules: list[str]
    prometheus_port: int = 0
    alertmanager_port: int = 0
    scrape_interval_s: float = 1.0
    retention_h: float = 24.0
    disk_max_mb: int = 512
    memory_max_mb: int = 256
    samples_max: int = 20_000

    @property
    def lookback_s(self) -> float:
        """How long a sample counts as the present value; then the figure is unknown."""
        return max(LOOKBACK_MIN_S, LOOKBACK_INTERVALS * self.scrape_interval_s)


def observe_of(settings: Settings, *, prometheus_port: int, alertmanager_port: int) -> Observe:
    """What to start under these settings; starts nothing.

    Raises LabError when a program is missing, a rule file cannot be used, the windows of the
    workers' SLOs are not those of the rules, or scrapes are too far apart for them.
    """
    if not settings.observe_rules_dir and settings.lab_slo_time_scale != LAB.factor:
        raise LabError(
            f"the generated rules are for lab_slo_time_scale = {LAB.factor}, it is"
            f" {settings.lab_slo_time_scale:g}: change that, or name rules of your own in the"
            " setting observe_rules_dir"
        )
    if not settings.observe_rules_dir and settings.observe_scrape_interval_s > LAB.scrape_s:
        raise LabError(
            f"the windows of the generated rules need observe_scrape_interval_s <= {LAB.scrape_s},"
            f" it is {settings.observe_scrape_interval_s:g}: change that, or name rules of your own"
            " in the setting observe_rules_dir"
        )
    programs = {name: find(name) for name in ("prometheus", "promtool", "prometheus-alertmanager")}
    rules = rule_files(Path(settings.observe_rules_dir) if settings.observe_rules_dir else RULES)
    check_rules(programs["promtool"], rules)
    return Observe(
        prometheus=programs["prometheus"],
        alertmanager=programs["prometheus-alertmanager"],
        rules=[str(path) for path in rules],
        prometheus_port=prometheus_port,
        alertmanager_port=alertmanager_port,
        scrape_interval_s=settings.observe_scrape_interval_s,
        retention_h=settings.observe_retention_h,
        disk_max_mb=settings.observe_disk_max_mb,
        memory_max_mb=settings.observe_memory_max_mb,
        samples_max=settings.observe_samples_max,
    )


def observed_environment(settings: Settings) -> dict[str, str]:
    """What workers are told in an observed lab: rules that run 60 times as fast need a census that
    is no older than a scrape or two.
    """
    interval_s = max(CENSUS_MIN_S, settings.observe_scrape_interval_s)
    return {"SYMPHONY_CENSUS_INTERVAL_S": f"{interval_s:g}"}


def rule_files(directory: Path) -> list[Path]:
    """The rule files of a directory, in order. Raises LabError when there are none."""
    found = sorted(directory.absolute().glob("*.yml"))
    if not found:
        raise LabError(
            f"there are no rules (*.yml) in {directory}: name a directory that has some in the"
            " setting observe_rules_dir, or leave it empty for the generated ones"
        )
    return found


def check_rules(promtool: Path, files: Sequence[Path]) -> None:
    """Raise LabError with the first mistake that promtool finds in these files."""
    try:
        done = subprocess.run(
            [promtool, "check", "rules", *files],
            capture_output=True,
            text=True,
            timeout=CHECK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"the rules cannot be checked: {error}") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        wrong = [line for line in said if line != "FAILED:"] or ["promtool said nothing"]
        raise LabError(f"Prometheus would refuse these rules: {wrong[0]}")
