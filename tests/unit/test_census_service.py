"""What the census shows while a source does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from app.census import service as census
from app.census.kafka import KafkaBooks
from app.census.service import KAFKA, POSTGRES, CensusService
from app.clock import ManualClock
from app.db.census import Books, SagaBooks
from app.observability import metrics
from app.observability.families import REGISTRY
from app.settings import load_settings

if TYPE_CHECKING:
    from app.delivery import App

pytestmark = pytest.mark.unit

SAGAS = {"PAYMENT_PENDING": SagaBooks(4, 100.0, 2)}
BOOKS = Books(SAGAS, {}, {}, 0.0, 0, None, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    census.clear_kafka()
    census.clear_postgres()
    metrics.CENSUS_AGE.forget()


async def answer_kafka() -> None:
    """A round in which role payment has no member."""
    census.show_kafka(KafkaBooks({"payment": 0}, []))


async def answer_postgres() -> None:
    """A round in which two sagas are stuck."""
    census.show_postgres(BOOKS)


async def fail() -> None:
    """A round that is not answered in time."""
    raise TimeoutError


@pytest.mark.parametrize(
    ("source", "answer", "name", "labels", "value"),
    [
        pytest.param(POSTGRES, answer_postgres, "symphony_saga_stuck", {}, 2, id=POSTGRES),
        pytest.param(
            KAFKA, answer_kafka, "symphony_consumer_members", {"role": "payment"}, 0, id=KAFKA
        ),
    ],
)  # fmt: skip
async def test_a_failed_round_leaves_what_was_known_until_it_is_old(
    source: str,
    answer: census.Take,
    name: str,
    labels: dict[str, str],
    value: float,
) -> None:
    """An alert on it keeps its pending time through one timeout; a lasting one makes it unknown."""
    settings, clock = load_settings(role="slo"), ManualClock()
    service = CensusService(cast("App", SimpleNamespace(settings=settings, clock=clock, db=None)))

    async def after(seconds: float, take: census.Take) -> tuple[float | None, float | None]:
        clock.advance(seconds)
        await service.once(source, take)
        age_s = REGISTRY.get_sample_value("symphony_census_age_seconds", {"source": source})
        return REGISTRY.get_sample_value(name, labels), age_s

    assert await after(0, fail) == (None, None), "nothing was ever known"
    assert await after(0, answer) == (value, 0)
    assert await after(9, fail) == (value, 9)
    assert await after(11, fail) == (value, settings.slo_stale_after_s)
    assert await after(1, fail) == (None, 21), "an old figure would look as if it were new"
    assert await after(9, answer) == (value, 0)
