"""Which tests stay together when the suite runs on several processes (pytest-xdist)."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

GROUPS = {
    "faults": "faults",
    "chaos": "chaos",
    "ablation": "labs",
    "e2e": "labs",
    "lab": "labs",
    "lessons": "labs",
}
"""Directories of tests that start every role, by group: of each group one lab runs at a time."""
BY_SUBJECT = "conformance"
LONGEST = ("faults", BY_SUBJECT, "tests/gameday/", "labs", "chaos", "tests/integration/")
"""How the names of the longest groups begin. They come first, so that no process is left with one
of them when the other has nothing more to do; and while one keeps every core busy with labs, the
other mostly waits in the conformance suite."""


def group_of(nodeid: str) -> str:
    """Return the group of a test: what shares servers or a lab is in one, and runs in its order.

    A file is a group; a directory of GROUPS belongs to its group; the conformance suite is grouped
    by subject, as each has workers of its own.
    """
    path, _, test = nodeid.partition("::")
    directory = path.split("/")[1] if path.count("/") > 1 else ""
    if directory == BY_SUBJECT and "[" in test:
        return f"{BY_SUBJECT} of {test.partition('[')[2].rstrip(']')}"
    return GROUPS.get(directory, path)


def rank_of(nodeid: str) -> int:
    """Return when the group of a test is to begin: the longer it takes, the earlier."""
    group = group_of(nodeid)
    ranks = (rank for rank, name in enumerate(LONGEST) if group.startswith(name))
    return next(ranks, len(LONGEST))


class SideBySide(LoadScopeScheduling):
    """Gives each process one group after the other, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
