"""A worker process: one role, from settings to exit code."""

from __future__ import annotations

import mode.loop
from faust import Worker

from app.factory import create_app
from app.observability.logging import configure, logging_config
from app.settings import Settings


def run(settings: Settings) -> None:
    """Run the role of `settings` until SIGTERM or SIGINT; never returns.

    Exit codes: 0 stopped in good order, 70 the worker ended itself (reason on standard error).
    """
    mode.loop.use("uvloop")
    configure(settings)
    worker = Worker(
        create_app(settings),
        loglevel=settings.log_level,
        logging_config=logging_config(settings),
        redirect_stdouts=False,
        quiet=True,
    )
    worker.spinner = None  # its cursor codes do not belong into a log
    raise worker.execute_from_commandline()
