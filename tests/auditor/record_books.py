"""Record the books of a running lab as the fixture of the auditor's tests.

`python -m tests.auditor.record_books LAB_DIR` writes books.json beside this file. The lab should
have seen orders of every class, a poison record, a parked order, and a fault. In the
present books.json the fault, the repeat and the conflict were written by hand: a lab of that day
had neither.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from chaos.auditor.audit import read_books
from chaos.auditor.records import Topics
from chaos.auditor.sources import Sources
from chaos.auditor.store import TABLES, Store
from chaos.auditor.views import KNOWLEDGE
from chaos.workload.target import running_lab

BOOKS = Path(__file__).with_name("books.json")


def main(lab_dir: Path) -> None:
    """Read the lab at rest and write its books."""
    target = running_lab(lab_dir)
    sources = Sources(
        target.dsn, target.bootstrap, "symphony", tuple(target.ledgers()),
        target.gateway_ledger, target.nemesis_ledger,
    )  # fmt: skip
    with Store() as store:
        unread = read_books(sources, Topics(sources.bootstrap), store, print)
        assert not unread, unread
        books = {table: rows(store, table) for table in TABLES if table not in KNOWLEDGE}
    lines = [f' "{table}": {_table(listed)}' for table, listed in books.items()]
    BOOKS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def rows(store: Store, table: str) -> list[dict[str, Any]]:
    """All rows of a table, without columns that are NULL."""
    names = [row[0] for row in store.rows(f"select column_name from (describe {table})")]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in store.rows(f"select * from {table} order by all")
    ]


def _table(listed: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join("  " + json.dumps(row, default=str) for row in listed) + "\n ]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
