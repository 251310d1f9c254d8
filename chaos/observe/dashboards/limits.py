"""Where green ends: the objectives of the SLOs and the thresholds of the alerts."""

from __future__ import annotations

from app.slo.objectives import completion_s
from chaos.observe.panels import Limit

COMPLETION_S = Limit(completion_s())
"""The share that SLO `completion` demands of orders completes within this."""
API_P95_S = Limit(1.0)
API_ERRORS = Limit(0.05)
CANARY_DIFFERENCE = Limit(0.1)
BURN = Limit(1.0)
"""At this pace a budget lasts exactly as long as it must."""
BUDGET_LEFT = Limit(0.0001, below=True)
NONE = Limit(1.0)
"""None is right, one is too many."""
LAG_S = Limit(30.0)
OUTBOX_S = Limit(60.0)
DATABASE_S = Limit(2.0)
CONNECTIONS = Limit(0.8)
LOOP_S = Limit(0.5)
DEAD_LETTERS = Limit(30.0)
