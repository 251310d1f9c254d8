"""Plug-in of a lab's worker: a wrong clock and a memory hog, as a file says, while it says so.

Nothing happens without the file, and nothing after the time that stands in it: the fault ends with
its lease whatever becomes of who ordered it. What is done shows in the worker's /status.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.delivery import App

log = get_log(__name__)
LOOK_S = 0.1
HOG_MB_MAX = 1024
MEGABYTE = 1024 * 1024


def file_of(directory: Path, worker: str) -> Path:
    """Where the orders of a worker's plug-in stand."""
    return directory / f"inside-{worker}.json"


class Inside:
    """One worker's plug-in. `skew_s` and `hog_mb` are what is in force now."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._hog = bytearray()
        self.skew_s = 0.0

    @property
    def hog_mb(self) -> int:
        """Megabytes (2**20 bytes) that it keeps."""
        return len(self._hog) // MEGABYTE

    def look(self, now_s: float) -> None:
        """Do what the file orders until its time is over."""
        order = self._read()
        if now_s >= float(order.get("until_s", 0.0)):
            order = {}
        skew_s, hog_mb = float(order.get("skew_s", 0.0)), int(order.get("hog_mb", 0))
        if skew_s != self.skew_s:
            log.warning("inside.clock", skew_s=skew_s)
            self.skew_s = skew_s
        if (hog_mb := min(hog_mb, HOG_MB_MAX)) != self.hog_mb:
            log.warning("inside.memory", hog_mb=hog_mb)
            self._hog = bytearray()
            self._hog = bytearray(b"\x01") * (hog_mb * MEGABYTE)

    def _read(self) -> dict[str, Any]:
        try:
            order: dict[str, Any] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        return order

    def watch(self) -> None:
        """Look for orders for ever."""
        while True:
            self.look(time.time())
            time.sleep(LOOK_S)


def install(app: App) -> None:
    """Skew the application's clock from within, and watch for orders in a thread."""
    settings = app.settings
    inside = Inside(file_of(Path(settings.lab_dir) / "nemesis", settings.worker_id))
    clock, probe = app.clock, app.lifecycle.probe
    right, status = clock.now, probe.status

    def now() -> datetime:
        return right() + timedelta(seconds=inside.skew_s)

    def said() -> dict[str, Any]:
        mine = {"clock": now().isoformat(), "skew_s": inside.skew_s, "hog_mb": inside.hog_mb}
        return {**status(), "inside": mine}

    clock.now = now  # type: ignore[method-assign]  # agents hold this very clock already
    probe.status = said  # type: ignore[method-assign]
    threading.Thread(target=inside.watch, name="inside", daemon=True).start()
