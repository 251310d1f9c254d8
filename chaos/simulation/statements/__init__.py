"""What the SQL of `app.db` says, in Python: one function per statement, known by its object.

Only the text of a statement is replaced; the functions of `app.db` around it (batching, order of
rows, guards, decoding) run unchanged. A statement without a function raises NotSimulated.
"""

from __future__ import annotations

from chaos.simulation.statements import inbox, intake, participants, relay, sagas
from chaos.simulation.statements.registry import NotSimulated, replaced, run_statement, simulated

__all__ = [
    "NotSimulated",
    "inbox",
    "intake",
    "participants",
    "relay",
    "replaced",
    "run_statement",
    "sagas",
    "simulated",
]
