"""What a column of a batch costs on its way to PostgreSQL: our array literal, psycopg2's list.

`python -m bench.arrays`: CPU per element, of the client that quotes it and of the server that reads
it, for the kinds of columns that the batch statements have; as `app.db.arrays` writes them and as
psycopg2 writes a list. Starts a PostgreSQL of its own; takes some seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from app.db.arrays import array_literal
from bench import machine, report
from bench.accounting import cpu_s
from chaos.lab.postgres import Postgres

ELEMENTS = 100
COLUMNS: dict[str, tuple[str, list[Any]]] = {
    "uuid text": ("uuid", [str(uuid.UUID(int=number)) for number in range(ELEMENTS)]),
    "int": ("int", list(range(ELEMENTS))),
    "short text": ("text", ["COMPLETED"] * ELEMENTS),
    "300 bytes": ("bytea", [bytes(range(150)) * 2] * ELEMENTS),
}
WAYS: dict[str, Callable[[list[Any]], Any]] = {"literal": array_literal, "list": list}


def measure(cursor: Any, server: int, kind: str, column: list[Any], way: Any, loops: int) -> Any:
    """Client and server microseconds per element; the statement itself is the same for both."""
    sql = f"select count(*) from unnest(%s::{kind}[])"
    began, used = time.process_time(), cpu_s(server)
    for _ in range(loops):
        cursor.execute(sql, (way(column),))
    scale = 1e6 / loops / len(column)
    return (time.process_time() - began) * scale, (cpu_s(server) - used) * scale


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.arrays", description=__doc__)
    parser.add_argument("--loops", type=int, default=2000, help="statements of 100 elements each")
    parser.add_argument("--name", default="arrays", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    rows = []
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        server = Postgres(Path(name) / "postgres", fsync=False)
        try:
            server.start()
            with closing(psycopg2.connect(server.dsn)) as connection, connection.cursor() as cursor:
                for title, (kind, column) in COLUMNS.items():
                    cells = [title]
                    for way in WAYS.values():
                        found = measure(
                            cursor, int(server.pid or 0), kind, column, way, options.loops
                        )
                        cells.append(f"{found[0]:.2f} + {found[1]:.2f}")
                    rows.append(cells)
        finally:
            server.kill()
    facts["rows"] = rows
    head = ["column of 100", *(f"{way}: client + server us/element" for way in WAYS)]
    body = report.table(head, rows)
    report.write(options.name, "Array parameters", facts, body)
    print("\n".join(body))


if __name__ == "__main__":
    main()
