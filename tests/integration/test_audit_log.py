"""The audit log: an act is recorded if and only if it was committed."""

from __future__ import annotations

import pytest

from app.db import audit_log
from tests.integration.participants import opened

pytestmark = pytest.mark.integration


async def test_an_act_is_recorded_with_its_transaction(database: str) -> None:
    """A commit keeps the row, with everything said about it; a rollback keeps none."""
    async with opened(database) as db:
        async with db.transaction() as tx:
            audit_log.record(
                tx,
                actor="ada",
                action="dead_letter.discard",
                target="payment.requested.dlt",
                reason="ju\0nk",
                detail={"ids": ["\0", 'quo"te'], "count": 2},
                request_id="r-1",
            )
            audit_log.record(tx, actor="bob", action="saga.retry", target="o-1")
        with pytest.raises(ZeroDivisionError):
            async with db.transaction() as tx:
                audit_log.record(tx, actor="eve", action="saga.skip", target="o-2")
                raise ZeroDivisionError
        bob, ada = await audit_log.recent(db, 10)
        assert (bob.actor, bob.action, bob.reason, bob.detail) == ("bob", "saga.retry", "", {})
        assert (ada.actor, ada.target, ada.request_id) == ("ada", "payment.requested.dlt", "r-1")
        assert (ada.reason, ada.detail) == ("ju\ufffdnk", {"ids": ["\ufffd", 'quo"te'], "count": 2})
        assert await audit_log.recent(db, 10, target="o-1") == [bob]
        assert await audit_log.recent(db, 10, before=bob.id) == [ada]
