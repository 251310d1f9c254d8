"""What the bench of the API publishes, made from answers."""

from __future__ import annotations

import pytest

from bench.api import figures
from bench.sender import Answer, Sent

pytestmark = pytest.mark.unit


def test_the_accepted_and_the_refused_are_told_apart() -> None:
    """Rates over the time until the last answer; an unanswered order is in neither."""
    accepted = [Answer(10.0 + n / 10, 10.2 + n / 10, 202, "id") for n in range(9)]
    refused = [Answer(10.0, 10.001, 503, ""), Answer(10.0, 12.0, 503, "")]
    sent = Sent([*accepted, *refused, Answer(0.0, 0.0, 0, "")], 10.0, 11.0, 1.25, 0.5)
    found = figures(sent)
    assert (found["accepted"], found["accepted_per_s"]) == (9, 4)
    assert (found["refused"], found["refused_per_s"]) == (2, 1)
    assert found["statuses"] == {202: 9, 503: 2, 0: 1}
    assert (found["accepted_p95_ms"], found["refused_max_ms"]) == (200.0, 2000.0)


def test_a_run_without_an_accepted_order_has_no_latency_of_one() -> None:
    """Unknown, never zero."""
    found = figures(Sent([Answer(1.0, 2.0, 503, "")], 1.0, 2.0, 0.0, 0.0))
    assert (found["accepted_per_s"], found["accepted_p50_ms"]) == (0, None)
