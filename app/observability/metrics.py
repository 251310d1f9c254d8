"""The one catalogue of metrics: every name, kind, label set and meaning stands here.

Guarantees: names start with `symphony_`, units are base units and end the name, label values are
bounded. Use: `metrics.DUPLICATES.child("payment", "inbox").inc()`. The declarations stand in
`app.observability.catalogue`, one module per subject; docs/reference/metrics.md is generated.
"""

from app.observability.catalogue.census import *
from app.observability.catalogue.delivery import *
from app.observability.catalogue.http import *
from app.observability.catalogue.orders import *
from app.observability.catalogue.outbox import *
from app.observability.catalogue.slo import *
from app.observability.catalogue.worker import *
