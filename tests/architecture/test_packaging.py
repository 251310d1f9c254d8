"""What the distribution promises: its packages, its import rules, its lock files."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from chaos.lab.jars import read_lock

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "agents", "tables", "web", "chaos")


def test_import_contracts_hold() -> None:
    """lint-imports keeps every contract of pyproject.toml."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_package_names_are_ours_alone(package: str) -> None:
    """No installed distribution but ours provides one of our five import packages."""
    assert set(packages_distributions().get(package, [])) == {"chaos-symphony"}


def test_pyproject_lists_exactly_the_five_packages() -> None:
    """Packages are listed explicitly, and each of them exists."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    include = settings["tool"]["setuptools"]["packages"]["find"]["include"]
    assert set(include) == {name for p in PACKAGES for name in (p, f"{p}.*")}
    assert all((ROOT / package / "__init__.py").exists() for package in PACKAGES)


def test_every_entry_point_can_be_loaded() -> None:
    """Each command that another package plugs in exists."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for target in settings["project"]["entry-points"]["symphony.commands"].values():
        module, _, name = target.partition(":")
        assert hasattr(__import__(module, fromlist=[name]), name)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-java.lock"])
def test_every_locked_package_has_hashes_and_no_index(name: str) -> None:
    """Lock files pin versions with sha256 and name no registry."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"^[A-Za-z0-9._-]+==\S+ ", line), line
        assert "--hash=sha256:" in line
        assert not re.search(r"https?://|--(extra-)?index|--find-links|--trusted", line)


def test_the_jar_lock_is_complete() -> None:
    """Every jar is pinned by sha256, broker and clients in the same version."""
    jars = {jar.artifact: jar for jar in read_lock()}
    assert len(jars) > 40
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars.values())
    assert jars["kafka_2.13"].version == jars["kafka-clients"].version


def test_locked_versions_satisfy_the_declared_dependencies() -> None:
    """What pyproject.toml asks for is in the lock."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    wanted = settings["dependencies"] + settings["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=;\[ ]", text)[0].lower() for text in wanted}
    assert names <= locked


def test_the_map_of_the_architecture_has_every_folder() -> None:
    """Every package of app and chaos, and every module of the delivery core, is told of."""
    told = (ROOT / "ARCHITECTURE.md").read_text()
    folders = [
        f"{path.parent.relative_to(ROOT)}/"
        for package in ("app", "chaos")
        for path in (ROOT / package).glob("*/__init__.py")
    ]
    modules = [path.name for path in (ROOT / "app/delivery").glob("[a-z]*.py")]
    missing = [name for name in folders + modules if f"`{name}`" not in told]
    assert missing == []
