"""No module is longer than CONTRIBUTING.md allows, but for those that are named here."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "agents", "tables", "web", "chaos", "bench")
LINES_MAX = 400
CATALOGUES = {
    "app/db/schema.py": "every table once: declarations of columns, and nothing to call",
    "app/settings_model.py": "every setting once: its unit, default and meaning, and no rules",
}
"""Lists of declarations: split, a reader would have to know in which part to look."""


def lengths(root: Path = ROOT) -> dict[str, int]:
    """How many lines every module under the rule has, by path relative to `root`."""
    return {
        path.relative_to(root).as_posix(): len(path.read_text().splitlines())
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }


def test_a_module_has_at_most_400_lines() -> None:
    """A longer one has two subjects: split it by them; the list of exceptions gets no new line."""
    found = lengths()
    assert len(found) > 300
    too_long = {name: n for name, n in found.items() if n > LINES_MAX and name not in CATALOGUES}
    assert too_long == {}


def test_every_exception_is_still_needed() -> None:
    """An exception for what was split, or is gone, would let it grow again unseen: delete it."""
    found = lengths()
    needless = [name for name in CATALOGUES if found.get(name, 0) <= LINES_MAX]
    assert needless == []


def test_a_module_that_is_too_long_is_found(tmp_path: Path) -> None:
    """Lines are counted as an editor does, in folders below a package too."""
    folder = tmp_path / "app" / "deep"
    folder.mkdir(parents=True)
    (folder / "long.py").write_text("\n" * (LINES_MAX + 1))
    (folder / "short.py").write_text("\n" * LINES_MAX)
    assert lengths(tmp_path) == {"app/deep/long.py": LINES_MAX + 1, "app/deep/short.py": LINES_MAX}
