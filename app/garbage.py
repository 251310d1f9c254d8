"""How often the garbage collector looks for cycles, for every process of ours."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLD: Final = 50_000


def collect_rarely() -> None:
    """Look for cycles each 50,000 objects, not at Python's default of some hundred.

    A start imports a lot and frees nothing: looking meanwhile takes a sixth of it. A batch
    allocates tens of thousands of short-lived objects: the default looks in the middle of it. The
    command line begins with this; a worker does it too, because it may be started without one.
    """
    gc.set_threshold(THRESHOLD)
