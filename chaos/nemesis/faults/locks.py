"""Faults `row_lock` and `idle_transaction`: a forgotten session keeps what others need."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import psycopg2
from psycopg2 import errors

from chaos.nemesis.faults.fault import Fault, Run, Unproved
from chaos.nemesis.world import CONNECT_S, World


class IdleTransaction(Fault):
    """A session has written something, and neither commits nor goes away."""

    name = "idle_transaction"
    aims = "postgres"
    for_s = 10.0
    recovers_from = "end"

    def targets(self, world: World) -> list[str]:
        return ["postgres"]

    def start(self, run: Run) -> None:
        name = f"nemesis-{run.action}"[:63]
        run.undo("sessions", dsn=run.world.dsn, application=name)
        session = psycopg2.connect(
            run.world.dsn, connect_timeout=CONNECT_S, application_name=name,
            options="-c idle_in_transaction_session_timeout=0",
        )  # fmt: skip
        run.notes["session"] = session
        with session.cursor() as cursor:
            cursor.execute("select pg_current_xact_id()")
            self._hold(run, cursor)

    def _hold(self, run: Run, cursor: Any) -> None:
        """Whatever else the session keeps."""

    def prove(self, run: Run) -> str:
        rows = run.world.sql(
            "select state, backend_xid::text from pg_stat_activity where pid = %s",
            run.notes["session"].info.backend_pid,
        )
        if not rows or rows[0][0] != "idle in transaction" or rows[0][1] is None:
            raise Unproved(f"the session is {rows}")
        return f"transaction {rows[0][1]} is idle and open"

    def after(self, run: Run) -> str:
        run.notes["session"].close()
        return ""


class RowLock(IdleTransaction):
    """A session holds the row locks of all stock that is kept track of."""

    name = "row_lock"
    aims = "inventory"
    for_s = 6.0
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"table": "inventory.stock"})

    def targets(self, world: World) -> list[str]:
        return ["inventory"]

    def _hold(self, run: Run, cursor: Any) -> None:
        cursor.execute(f"select from {run.params['table']} for update")
        run.notes["rows"] = cursor.rowcount

    def prove(self, run: Run) -> str:
        evidence = super().prove(run)
        try:
            run.world.sql(f"select from {run.params['table']} for update nowait")
        except errors.LockNotAvailable:
            return f"{evidence}; {run.notes['rows']} rows of {run.params['table']} are locked"
        raise Unproved(f"rows of {run.params['table']} can be locked by others")
