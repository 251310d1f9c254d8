"""The simulation replaces every edge of the product that it runs; nothing reaches the real one."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest

import app
from app.roles import ROLES
from chaos.simulation import environment
from chaos.simulation.fleet import CONSUMING
from chaos.simulation.plan import plan_of
from chaos.simulation.run import simulate

pytestmark = pytest.mark.unit

ROOT = Path(app.__file__).parents[1]
NOT_RUN = {
    "app.worker",
    "app.monolith",
    "app.factory",
    "app.clock",
    "app.delivery.aiokafka_seams",
    "app.delivery.consumer_thread",
    "app.delivery.killer",
    "app.delivery.lifecycle",
    "app.delivery.reporting",
    "app.delivery.rewind",
    "app.delivery.table_store",
    "app.delivery.watchdog",
    "app.redrive.runner",
    "app.slo.service",
    "app.delivery.exits",
    "app.work",
    "agents.probe",
}
"""Modules whose use of time, or of the end of the process, no simulated worker reaches."""
MEASURING = {"app.db.engine", "app.db.pool", "app.delivery.step"}
"""Modules that read the real clock for metrics only."""


def product_modules() -> list[str]:
    names = []
    for package in ("app", "agents", "tables"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                names.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return [name.removesuffix(".__init__") for name in names]


def names_used(module: str) -> set[str]:
    """`module.attribute` for what the module imports from elsewhere, or reaches by attribute."""
    path = ROOT.joinpath(*module.split("."))
    source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    used = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            used.update(f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{node.value.id}.{node.attr}")
    return used


def users_of(*names: str) -> set[str]:
    return {
        module
        for module in product_modules()
        if module not in NOT_RUN and names_used(module) & set(names)
    }


def known(modules: tuple[ModuleType, ...]) -> set[str]:
    return {module.__name__ for module in modules}


def test_every_clock_of_the_product_is_virtual() -> None:
    """A module that binds the monotonic clock is one whose clock the simulation replaces."""
    assert users_of("time.monotonic", "time.time", "time.sleep") == {
        *known(environment.MONOTONIC),
        "app.gateway.client",
    }
    assert users_of("time.perf_counter") == MEASURING


def test_no_module_reads_the_time_of_day_or_draws_unseeded_numbers() -> None:
    """Wall time comes by `clock`; the only randomness is the seeded module `random`."""
    assert users_of("datetime.now", "uuid.uuid4", "uuid.uuid1", "os.urandom") == set()
    assert users_of("secrets.token_hex", "secrets.randbelow", "random.SystemRandom") == set()


def test_every_end_of_a_process_is_simulated() -> None:
    """A module that ends its process is one where the simulation ends the simulated process."""
    assert users_of("app.delivery.exits.end_process", "os._exit") == known(environment.ENDING)


def test_the_product_that_runs_is_the_product() -> None:
    """Every role that consumes is run by its own `register`; nothing of it is copied."""
    # notification tells and slo counts: nothing of a saga, of money or of stock depends on it
    assert set(CONSUMING) | {"relay", "notification", "slo"} == {
        name for name, role in ROLES.items() if role.produces and role.standard
    }
    simulate(plan_of(1))
    for role in CONSUMING:
        assert all(module in sys.modules for module in ROLES[role].modules)


def test_nothing_stays_replaced_after_a_run() -> None:
    """The product's names are its own again."""
    from time import monotonic

    import app.delivery.agent
    import app.gateway.client
    from app.delivery.exits import end_process

    simulate(plan_of(1))
    assert app.delivery.agent.monotonic is monotonic
    assert app.delivery.agent.end_process is end_process
    assert app.gateway.client.aiohttp.__name__ == "aiohttp"
