"""The verdict's renderings: the same facts for a terminal, a page, a CI and a program."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from chaos.auditor.invariants import CATALOGUE, Book
from chaos.auditor.report.junit import junit
from chaos.auditor.report.page import page
from chaos.auditor.report.text import sentence, text
from chaos.auditor.store import Store
from tests.auditor.books import document_of, fill, orders, plant
from tests.auditor.planted import DEFECTS

CHARGED_TWICE = next(one for one in DEFECTS if one.name == "charged twice")


@pytest.fixture
def books() -> Iterator[Store]:
    """Recorded books of our own."""
    with Store() as store:
        fill(store)
        yield store


def test_a_verdict_that_holds_says_so_in_every_form(books: Store) -> None:
    """One sentence, every invariant with its count, no word of "exactly"."""
    told = json.loads(json.dumps(document_of(books)))
    assert (told["result"], told["exit_code"], told["safety"]) == ("holds", 0, "holds")
    assert sentence(told) == (
        "HOLDS: 22 orders under 1 fault: at-least-once delivery, effects once, audited"
    )
    lines = text(told).splitlines()
    for one in CATALOGUE:
        assert any(line.split()[0] == one.id and one.title in line for line in lines if line)
    assert "3 dead letters, kept for an operator" in text(told)
    assert "2026-11-28T12:00:00+00:00" in page(told)
    assert "auditor@127.0.0.1:5432" in page(told)
    assert "secret" not in json.dumps(told)
    assert "exactly" not in (text(told) + page(told)).lower()
    suite = ElementTree.fromstring(junit(told))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) \
        == (str(len(CATALOGUE)), "0", "0", "0")  # fmt: skip


def test_a_violation_is_named_with_its_witness_in_every_form(books: Store) -> None:
    """Invariant, order and timeline stand in text, page and JUnit alike."""
    plant(books, CHARGED_TWICE.sql)
    told = document_of(books)
    order_id = orders()["happy"]
    assert sentence(told).startswith("VIOLATED: P1 x1, ")
    for form in (text(told), page(told), junit(told)):
        assert order_id in form
        assert "2 charges of" in form
        assert "charge" in form
    suite = ElementTree.fromstring(junit(told))
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert [name.split()[0] for name in failed if name] == sorted(CHARGED_TWICE.caught_by)


def test_unknown_invariants_say_why(books: Store) -> None:
    """A missing book is named once in the sentence, and beside each invariant."""
    told = document_of(books, unread={Book.GATEWAY: "gateway.jsonl: no such file"})
    assert sentence(told) == "UNKNOWN: gateway.jsonl: no such file"
    needing = sum(Book.GATEWAY in one.needs for one in CATALOGUE)
    assert text(told).count("unknown: gateway.jsonl: no such file") == needing
    suite = ElementTree.fromstring(junit(told))
    assert suite.get("errors") == str(needing)
    assert "gateway.jsonl" in page(told)


def test_the_page_loads_nothing_and_shows_junk_as_text(books: Store) -> None:
    """It can be mailed; what a poison record says is escaped."""
    books.execute("update record set error = '<script>alert(1)</script>' where topic like '%.dlt'")
    told = document_of(books)
    html = page(told)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"(src|href)=\"(?!#)", html)


def test_junit_survives_control_characters(books: Store) -> None:
    """XML has none; a witness that quotes junk must not make the file unreadable."""
    books.execute("insert into outbox values (uuid(), 'bad' || chr(1) || 'topic', '', false)")
    suite = ElementTree.fromstring(junit(document_of(books)))
    assert suite.get("failures") == "1"
