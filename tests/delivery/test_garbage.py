"""A worker's garbage collector is set by the worker itself: there may be no command line."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from app.delivery.lifecycle import Lifecycle
from app.garbage import THRESHOLD

pytestmark = pytest.mark.unit


async def test_a_started_worker_collects_rarely() -> None:
    """As the command line does from its beginning."""
    before = gc.get_threshold()
    anything: Any = None
    try:
        await Lifecycle.after_start(anything)
        assert gc.get_threshold()[0] == THRESHOLD > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
