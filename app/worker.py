"""A worker process: one role or the monolith of all, from settings to exit code."""

from __future__ import annotations

from typing import Any

import faust
import mode
import mode.loop

from app.delivery import exits
from app.delivery.aiokafka_seams import fit_uvloop
from app.factory import create_app
from app.monolith import MONOLITH, Monolith
from app.observability import tracing
from app.observability.logging import configure, logging_config
from app.settings import Settings


def run(settings: Settings) -> None:
    """Run the role of `settings`, or all of them, until SIGTERM or SIGINT; never returns.

    Exit codes: 0 stopped in good order, 70 the worker ended itself (reason on standard error), 75
    stopped in good order to read again, once started anew.
    """
    mode.loop.use("uvloop")
    fit_uvloop()
    configure(settings)
    options: dict[str, Any] = {
        "loglevel": settings.log_level,
        "logging_config": logging_config(settings),
        "redirect_stdouts": False,
        "quiet": True,
    }
    worker: mode.Worker
    if settings.role == MONOLITH:
        monolith = Monolith(settings)
        settings = monolith.settings
        worker = mode.Worker(monolith, **options)
    else:
        app = create_app(settings)
        settings = app.settings
        worker = faust.Worker(app, **options)
        worker.spinner = None  # its cursor codes do not belong into a log
    tracing.start(settings)
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        tracing.stop()
    raise SystemExit(exits.stop_code())
