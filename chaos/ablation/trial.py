"""One run of an experiment in a lab of its own, and what the auditor says to it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2

from app.messages import Output, deadletter
from app.roles import ROLES
from app.settings import load_settings
from chaos.ablation.experiments import Experiment
from chaos.ablation.stage import Stage, Void
from chaos.audit import AuditFailed, run_audit
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.naive.loud import EVENT

INJECTOR = "chaos.injector"
REST_S = 90.0
"""How long a run with all cures may take to come to rest."""


class Trial(NamedTuple):
    """One run. `violated` is invariant to number of violations; `void` says why it proves nothing.

    `document` is the auditor's, empty when it did not come to it; `logs` are those of the workers.
    """

    experiment: str
    plugin: str
    seed: int
    orders: int = 0
    seconds: float = 0.0
    violated: Mapping[str, int] = {}
    holds: bool = False
    unknown: tuple[str, ...] = ()
    unrest: str = ""
    void: str = ""
    document: Mapping[str, Any] = {}
    logs: Mapping[str, str] = {}


def run_trial(
    experiment: Experiment,
    *,
    lab_dir: Path,
    seed: int,
    orders: int = 0,
    plugin: str = "",
    patience_s: float = REST_S,
) -> Trial:
    """Play `experiment` in a new lab in `lab_dir`, audit it, and remove the lab.

    `plugin` takes a cure out, empty for none; `patience_s` is how long it may then take to come to
    rest. Orders 0 means as many as the experiment wants. Does not raise for what goes wrong in the
    lab: that is a void trial.
    """
    began = time.monotonic()
    trial = Trial(experiment.name, plugin, seed)
    lab = Lab(lab_dir)
    try:
        lab = Lab.up(_plan(experiment, plugin, lab_dir), detach=False)
        stage = Stage(
            lab, seed=seed, orders=orders or experiment.orders, redrive=_redrive_of(plugin)
        )
        experiment.play(stage)
        if plugin:
            _prove_unsafe(stage, plugin)
        trial = _audit(trial, stage, patience_s)
    except (LabError, Void, AuditFailed, OSError, psycopg2.Error) as error:
        trial = trial._replace(void=f"{type(error).__name__}: {' '.join(str(error).split())}")
    finally:
        trial = trial._replace(logs=_logs(lab))
        _throw_away(lab)
    return trial._replace(seconds=time.monotonic() - began)


def _throw_away(lab: Lab) -> None:
    """End a lab without giving its workers time: nobody needs its data any more."""
    with contextlib.suppress(LabError):
        for row in lab.status()["processes"]:
            if row["role"] in ROLES:
                lab.stop(row["name"], grace_s=0)
    lab.down()
    lab.files.purge()


def _redrive_of(plugin: str) -> Callable[..., Output]:
    """How dead letters are sent back: a plug-in may bring a tool of its own."""
    module = import_module(plugin) if plugin else None
    tool: Callable[..., Output] = getattr(module, "redrive", deadletter.redrive)
    return tool


def _plan(experiment: Experiment, plugin: str, lab_dir: Path) -> Any:
    plugins = (INJECTOR, *experiment.plugins, *filter(None, (plugin,)))
    settings = {"LOG_FORMAT": "json", **experiment.settings, "PLUGINS": ",".join(plugins)}
    return make_plan(
        load_settings(lab_dir=lab_dir),
        workers={role: str(count) for role, count in experiment.workers.items()},
        environment={f"SYMPHONY_{name}": value for name, value in settings.items()},
    )


def _prove_unsafe(stage: Stage, plugin: str) -> None:
    """The worker whose cure is out has said so. Raises Void."""
    name = plugin.rpartition(".")[2]
    said = any(
        f'"{EVENT}"' in line and f'"{name}"' in line
        for row in stage.lab.status()["processes"]
        for line in stage.log(row["name"])
    )
    if not said:
        raise Void(f"no worker says that {plugin} is installed")


def _audit(trial: Trial, stage: Stage, deadline_s: float) -> Trial:
    audited = run_audit(stage.target, stage.target.ledgers(), deadline_s=deadline_s)
    found = audited.document["invariants"]
    return trial._replace(
        orders=len(stage.accepted),
        violated={one["id"]: int(one["violations"]) for one in found if one["violations"]},
        holds=audited.exit_code == 0,
        unknown=tuple(one["id"] for one in found if one["state"] == "unknown"),
        unrest=audited.unrest,
        document=audited.document,
    )


def _logs(lab: Lab) -> dict[str, str]:
    return {path.name: path.read_text(errors="replace") for path in lab.files.logs.glob("*.log")}
