"""What people were told can be read, all of it or about one subject, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from tests.integration.api_client import Client, api, problem, query

pytestmark = pytest.mark.integration

ORDER = "0b6c2d0e-1f7a-5a58-9d1c-6f2b1a3c4d5e"


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    """The API over a database in which five people were told something."""
    for number in range(5):
        query(
            database,
            "insert into notifications.notification values (%s, %s, %s, %s, 'SENT', %s,"
            " now() + %s * interval '1 s', now(), %s)",
            str(UUID(int=number)),
            ORDER if number < 2 else "MUTE",
            f"kind_{number}" if number < 3 else "stock_low",
            str(UUID(int=100 + number)),
            f"text {number}",
            number,
            "" if number < 3 else str(number * 100),
        )
    async with api(database) as running:
        yield running


async def test_notifications_are_listed_newest_first_and_paged(client: Client) -> None:
    """Pages of two hold all five once; a subject narrows the list."""
    kinds, before = [], ""
    while True:
        answer = await client.get(f"/api/notifications?limit=2{before}")
        page = await answer.json()
        kinds += [one["kind"] for one in page["notifications"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert kinds == ["stock_low", "stock_low", "kind_2", "kind_1", "kind_0"]
    answer = await client.get(f"/api/notifications?subject={ORDER}")
    told = (await answer.json())["notifications"]
    assert [(one["subject"], one["text"], one["status"]) for one in told] == [
        (ORDER, "text 1", "SENT"),
        (ORDER, "text 0", "SENT"),
    ]
    answer = await client.get("/api/notifications?subject=MUTE")
    told = (await answer.json())["notifications"]
    assert [one["occurrence"] for one in told] == ["400", "300", ""]


async def test_a_mistake_in_the_question_is_named(client: Client) -> None:
    """A cursor or limit that is none is refused, never ignored."""
    for wrong in ("limit=0", "before=x", "subject="):
        await problem(await client.get(f"/api/notifications?{wrong}"), 400)
