"""A damaged local store is thrown away; a store that is merely in use or full is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from app.delivery.exits import EXIT_CODE
from app.delivery.table_store import RebuildingStore
from app.delivery.tables import table_get, table_items

PARTITION = 2
PLACE = TP("changelog", PARTITION)


def opened(directory: Path) -> RebuildingStore:
    """A store with its files below `directory`; a table as far as the functions need one."""
    app: Any = SimpleNamespace(conf=SimpleNamespace(tabledir=directory, table_key_index_size=10))
    table: Any = SimpleNamespace(name="sagas", is_global=False, use_partitioner=False)
    return RebuildingStore("rebuilding://", app, table, driver="rocksdict")


def filled(directory: Path) -> Path:
    """Write one entry and its offset, close, and return the partition's directory."""
    store = opened(directory)
    store._db_for_partition(PARTITION).put(b"key", b"value")
    store.set_persisted_offset(PLACE, 7)
    store._db_for_partition(PARTITION).flush()
    path = Path(store.partition_path(PARTITION))
    store._dbs.pop(PARTITION).close()
    return path


def test_an_undamaged_store_keeps_what_it_has(tmp_path: Path) -> None:
    """Opened again, it knows its entry and the offset up to which it was recovered."""
    filled(tmp_path)
    store = opened(tmp_path)
    assert store.persisted_offset(PLACE) == 7
    table = SimpleNamespace(data=store)
    assert table_get(table, PARTITION, b"key") == b"value"
    assert list(table_items(table, PARTITION)) == [(b"key", b"value")]


def rubbish(path: Path) -> None:
    """Overwrite a file from its beginning to its end."""
    path.write_bytes(b"\xff" * max(16, path.stat().st_size))


DAMAGE: list[tuple[str, Callable[[Path], None]]] = [
    ("CURRENT", rubbish),
    ("MANIFEST-*", rubbish),
    ("*.sst", rubbish),
    ("MANIFEST-*", Path.unlink),
    ("*.sst", Path.unlink),
]


@pytest.mark.parametrize(("pattern", "harm"), DAMAGE)
def test_a_damaged_partition_begins_empty(
    tmp_path: Path, pattern: str, harm: Callable[[Path], None]
) -> None:
    """At the latest for the process after the one that met the damage; without an offset, its
    changelog is read from the beginning.
    """
    path = filled(tmp_path)
    victims = list(path.glob(pattern))
    assert victims
    for victim in victims:
        harm(victim)
    first = opened(tmp_path)
    found: int | None
    try:
        found = first.persisted_offset(PLACE)
    except Exception as error:
        found = None if first.discard_damaged(PARTITION, error) else -1
    assert found is None
    first._dbs.clear()
    assert opened(tmp_path).persisted_offset(PLACE) is None


def test_a_store_that_another_process_holds_is_not_thrown_away(tmp_path: Path) -> None:
    """A lock is no damage."""
    filled(tmp_path)
    holder = opened(tmp_path)
    assert holder.persisted_offset(PLACE) == 7
    with pytest.raises(Exception, match=r"(?i)lock"):
        opened(tmp_path)._db_for_partition(PARTITION)
    assert holder._db_for_partition(PARTITION).get(b"key") == b"value"


def test_a_full_disk_is_no_damage(tmp_path: Path) -> None:
    """What cannot be written now is still there."""
    path = filled(tmp_path)
    full = Exception("IO error: No space left on device: While appending to file")
    assert not opened(tmp_path).discard_damaged(PARTITION, full)
    assert path.exists()


def test_damage_met_by_a_read_leaves_files_that_a_successor_can_use(tmp_path: Path) -> None:
    """The error goes on and ends the process; the partition is gone by then."""
    path = filled(tmp_path)
    store = opened(tmp_path)

    class Broken:
        def get(self, key: bytes) -> bytes:
            raise RuntimeError(f"Corruption: block checksum mismatch at {key!r}")

    store._dbs[PARTITION] = Broken()
    with pytest.raises(RuntimeError, match="Corruption"):
        table_get(SimpleNamespace(data=store), PARTITION, b"key")
    assert not path.exists()


RECOVERING = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace as Some
from faust.types import TP
from app.delivery.table_store import RebuildingStore

conf = Some(tabledir=Path(sys.argv[1]), table_key_index_size=10)
table = Some(name="sagas", is_global=False, use_partitioner=False)
store = RebuildingStore("rebuilding://", Some(conf=conf), table, driver="rocksdict")
store._db_for_partition(2)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
at = {"tp": TP("changelog", 2), "partition": 2}
batch = [
    Some(message=Some(**at, offset=number, key=b"%d" % number, value=b"v" * 999))
    for number in range(1000)
]
try:
    store.apply_changelog_batch(batch, None, None)
except Exception:
    print("Faust would go on here")
"""


def test_a_store_that_cannot_be_written_in_recovery_ends_the_process(tmp_path: Path) -> None:
    """Faust swallows what a store raises there, and would write the same batch for ever."""
    done = subprocess.run(
        [sys.executable, "-c", RECOVERING, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EXIT_CODE, done
    assert "exit 70 (store): table sagas cannot be recovered: IO error" in done.stderr
    assert opened(tmp_path).persisted_offset(PLACE) is None
