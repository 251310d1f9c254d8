"""Servers and subjects of one ledger run: a broker and a database of its own, nothing shared.

Guarantees: whatever ends the run ends its servers and workers too; two runs never meet (own ports,
own directory, own database).
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from chaos.lab.broker import Broker
from chaos.lab.postgres import Postgres
from chaos.ledger.campaign import Campaign, Plan, Result
from chaos.ledger.departure import Evictor
from chaos.ledger.probe_subject import ProbeSubject, create_database
from chaos.ledger.stock_subject import StockSubject
from chaos.ledger.trial import Limits, Trial
from chaos.rules import parse_rules

INJECTOR = "chaos.injector"


class Arena:
    """A running broker, and a database server that starts with the first subject needing one."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.directory, self.limits = directory, limits
        self.broker = Broker(directory / "broker")
        self._postgres: Postgres | None = None
        self._ends = ExitStack()

    def __enter__(self) -> Arena:
        self.directory.mkdir(parents=True, exist_ok=True)
        # PostgreSQL gives up root's rights and must still reach its files.
        self.directory.chmod(0o755)
        self._ends.callback(self.broker.kill)
        self.broker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def stock(self, mode: str) -> Trial:
        """Start stock Faust in `mode`; returns when its group owns every partition."""
        place = self.directory / f"stock-{mode}"
        # Stock Faust often does not recover at all: do not let it hold up the rounds. It starts
        # within the limits of all.
        limits = replace(self.limits, recovery_s=20.0, quiesce_s=20.0)
        subject = StockSubject(mode, self.broker.bootstrap, place, limits)
        return self._started(Trial(subject, self.broker.bootstrap, place, limits))

    def probe(
        self,
        plugins: tuple[str, ...] = (),
        failpoints: str = "",
    ) -> Trial:
        """Start our core; returns when its group owns every partition.

        `plugins` are installed in its workers and `failpoints` (rules of chaos.rules) armed. A dead
        worker is evicted from its group, as the laboratory's supervisor does. One probe per arena:
        its topics have fixed names.
        """
        settings = {}
        if failpoints:
            parse_rules(failpoints)
            plugins = (*plugins, INJECTOR)
            settings["FAILPOINTS"] = failpoints
        if self._postgres is None:
            self._postgres = Postgres(self.directory / "postgres", fsync=False)
            self._ends.callback(self._postgres.kill)
            self._postgres.start()
        database = f"ledger_{uuid.uuid4().hex[:8]}"
        dsn = self._postgres.dsn_of(database)
        create_database(dsn, self._postgres.dsn_of("postgres"), database)
        place = self.directory / "probe"
        subject = ProbeSubject(
            self.broker.bootstrap, dsn, place, self.limits, plugins=plugins, settings=settings
        )
        evictor = Evictor(self.broker.bootstrap, subject.group)
        self._ends.callback(evictor.close)
        return self._started(Trial(subject, self.broker.bootstrap, place, self.limits, evictor))

    def _started(self, trial: Trial) -> Trial:
        self._ends.callback(trial.close)
        trial.start(self.limits.recovery_s)
        return trial


@contextmanager
def temporary_directory(keep: Path | None) -> Iterator[Path]:
    """`keep`, or a directory that is removed at the end."""
    if keep is not None:
        yield keep
    else:
        with tempfile.TemporaryDirectory(prefix="symphony-ledger-") as name:
            yield Path(name)


def run(
    plan: Plan,
    say: Callable[[str], None],
    *,
    stock_mode: str | None = None,
    probe: bool = True,
    failpoints: str = "",
    keep: Path | None = None,
) -> list[Result]:
    """Run `plan` over our core and, when a mode is named, stock Faust beside it.

    `plan.rates` has one rate per subject, ours first. `failpoints` are rules for our core's
    workers. Logs and ledgers stay in `keep`. Raises BadRule.
    """
    with temporary_directory(keep) as directory, Arena(directory, Limits()) as arena:
        trials = [arena.probe(failpoints=failpoints)] if probe else []
        if stock_mode is not None:
            trials.append(arena.stock(stock_mode))
        return Campaign(trials, arena.broker, plan, say).run()
