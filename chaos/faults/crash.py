"""Fault `crash`: the process is gone, as after kill -9 or a machine's end."""

from __future__ import annotations

import logging
import os
from typing import NoReturn

from app.failpoints import Hit
from chaos.faults.fault import BadFault, Strike

EXIT_CODE = 137
"""What a shell reports for SIGKILL."""


def build(argument: str) -> Strike:
    """`crash` takes no argument. No clean-up runs and no exit reason is left: an unclean end."""
    if argument:
        raise BadFault(f"fault crash takes no argument, got {argument!r}")

    async def strike(hit: Hit) -> NoReturn:
        del hit
        logging.shutdown()
        os._exit(EXIT_CODE)

    return strike
