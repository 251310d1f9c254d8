"""What the orchestrator counts of a decision."""

from __future__ import annotations

import pytest

from app.domain.exploration import START, cancellation, creation
from app.domain.saga import Applied, Saga, decide
from app.observability import metrics
from app.orchestrator.emitting import count

pytestmark = pytest.mark.unit


def counted() -> dict[str, float]:
    """Sagas started, and finished as the sample order ends here."""
    return {
        "started": metrics.SAGA_STARTED.child()._value.get(),
        "finished": metrics.SAGA_FINISHED.child("CANCELLED", "customer")._value.get(),
    }


@pytest.mark.parametrize("events", [[cancellation()], [cancellation(), creation()]], ids=len)
def test_a_saga_that_ends_with_its_first_event_is_finished(events: list[object]) -> None:
    """An order cancelled before its creation arrived: started once, finished once; no backlog."""
    before, saga = counted(), None
    for event in events:
        decision = decide(saga, event, START)  # type: ignore[arg-type]
        assert isinstance(decision, Applied)
        count(decision, START, "")
        saga = decision.saga
    assert isinstance(saga, Saga)
    after = counted()
    assert {key: after[key] - before[key] for key in before} == {"started": 1, "finished": 1}
