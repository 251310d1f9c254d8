"""Tests that share servers stay in one process, in their order."""

from __future__ import annotations

import pytest

from tests.side_by_side import group_of, rank_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/unit/test_saga.py::test_x[a-b]", "tests/unit/test_saga.py"),
        ("tests/faults/test_platform.py::test_x", "faults"),
        ("tests/chaos/test_crash_points.py::test_x[web.after_commit+relay.y]", "chaos"),
        ("tests/ablation/test_ablation.py::test_x[no_inbox]", "labs"),
        ("tests/conformance/test_crashes.py::test_x[dlq-index]", "conformance of dlq-index"),
        ("tests/conformance/test_failures.py::test_y[dlq-index]", "conformance of dlq-index"),
        (
            "tests/conformance/test_declarations.py::test_z",
            "tests/conformance/test_declarations.py",
        ),
        ("tests/test_top.py::test_x", "tests/test_top.py"),
    ],
)
def test_what_shares_servers_is_one_group(nodeid: str, group: str) -> None:
    """Files, whole labs of one kind, and subjects of the conformance suite."""
    assert group_of(nodeid) == group


def test_the_longest_groups_begin_first() -> None:
    """Labs, with the conformance suite beside them, then what has servers only, then the rest."""
    nodeids = [
        "tests/unit/test_saga.py::test_x",
        "tests/integration/test_dlq.py::test_x",
        "tests/chaos/test_kinds.py::test_x",
        "tests/lab/test_lab.py::test_x",
        "tests/conformance/test_crashes.py::test_x[probe]",
        "tests/faults/test_platform.py::test_x",
    ]
    assert sorted(nodeids, key=rank_of) == nodeids[::-1]
