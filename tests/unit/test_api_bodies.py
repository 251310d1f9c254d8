"""Facts about what the API accepts: money, shapes, limits, trace headers."""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given
from hypothesis import strategies as st

from app.observability.tracing import begin
from app.trace_context import parse
from web.api.bodies import CancelIn, OrderIn, OrderRequest, decode
from web.api.bodies import _check as check
from web.api.money import EXPONENTS, MINOR_MAX, BadMoney, format_minor, parse_minor
from web.api.paging import LIMIT_MAX, limit_of
from web.problems import Problem
from web.trace import request_id

pytestmark = pytest.mark.unit

ORDER = msgspec.json.Decoder(OrderIn)


def order(raw: str) -> OrderRequest:
    """Decode and check an order request."""
    return check(decode(ORDER, raw.encode()), items_max=3)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.50", "EUR", 1250),
        ("12.5", "EUR", 1250),
        ("12", "EUR", 1200),
        ("0.01", "USD", 1),
        ("12.500", "EUR", 1250),
        ("1200", "JPY", 1200),
        ("1200.00", "JPY", 1200),
        ("1.234", "KWD", 1234),
        ("10000000000", "EUR", MINOR_MAX),
    ],
)
def test_amounts_become_exact_minor_units(text: str, currency: str, minor: int) -> None:
    """Major units are scaled by the currency's exponent and nothing is rounded."""
    assert parse_minor(text, currency) == minor


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("12.505", "EUR"),
        ("12.5", "JPY"),
        ("0", "EUR"),
        ("0.00", "EUR"),
        ("-1", "EUR"),
        ("+1", "EUR"),
        ("1e3", "EUR"),
        ("1E+400", "EUR"),
        ("NaN", "EUR"),
        ("Infinity", "EUR"),
        (" 1", "EUR"),
        ("1_000", "EUR"),
        ("01", "EUR"),
        ("1.", "EUR"),
        (".5", "EUR"),
        ("\u0661", "EUR"),
        ("", "EUR"),
        ("10000000000.01", "EUR"),
        ("9" * 5000, "EUR"),
        ("1", "XXX"),
        ("1", "eur"),
    ],
)
def test_anything_that_is_not_an_exact_amount_is_refused(text: str, currency: str) -> None:
    """Too many decimals, signs, exponents, odd digits, zero, too much and unknown currencies."""
    with pytest.raises(BadMoney):
        parse_minor(text, currency)


@given(st.integers(1, MINOR_MAX), st.sampled_from(sorted(EXPONENTS)))
def test_formatting_and_parsing_are_inverse(minor: int, currency: str) -> None:
    """Every amount survives the trip through text, and agrees with decimal arithmetic."""
    text = format_minor(minor, currency)
    assert parse_minor(text, currency) == minor
    assert Decimal(text) == Decimal(minor).scaleb(-EXPONENTS[currency])


def test_a_total_is_read_from_a_number_or_a_string_without_floats() -> None:
    """0.1 + 0.2 style inputs keep their digits; both spellings give the same digest."""
    number = order('{"customerId": "c", "total": 1234567.89, "currency": "EUR"}')
    string = order('{"currency":"EUR","customerId":"c","total":"1234567.890"}')
    assert number.total_minor == 123456789
    assert number == string
    assert number.digest() == string.digest()
    assert number.digest() != order('{"customerId":"c","total":1,"currency":"EUR"}').digest()


def test_an_item_list_keeps_the_clients_price_claims_as_text() -> None:
    """Prices come from the catalogue; a claim is only kept for comparison."""
    request = order(
        '{"customerId":"c","items":[{"productId":"P1","quantity":2,"unitPrice":9.90},'
        '{"productId":"P2","quantity":1}],"shippingAddress":"1 High Street"}'
    )
    assert [(line.product_id, line.quantity, line.unit_price) for line in request.lines] == [
        ("P1", 2, "9.90"),
        ("P2", 1, ""),
    ]
    assert request.shipping_address == "1 High Street"


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ('{"customerId":"c"}', "$"),
        ('{"customerId":"c","total":null}', "$"),
        ('{"customerId":"c","total":1,"items":[{"productId":"P1","quantity":1}]}', "$"),
        ('{"customerId":"","total":1}', "$.customerId"),
        ('{"total":1}', "$"),
        ('{"customerId":"a\\u0000b","total":1}', "$.customerId"),
        ('{"customerId":"a\\n","total":1}', "$.customerId"),
        ('{"customerId":5,"total":1}', "$.customerId"),
        ('{"customerId":"c","total":true}', "$.total"),
        ('{"customerId":"c","total":{}}', "$.total"),
        ('{"customerId":"c","total":""}', "$.total"),
        ('{"customerId":"c","total":1.001}', "$.total"),
        ('{"customerId":"c","total":1,"currency":"EURO"}', "$.currency"),
        ('{"customerId":"c","total":1,"status":"COMPLETED"}', "$"),
        ('{"customerId":"c","items":[]}', "$.items"),
        ('{"customerId":"c","items":[{"productId":"P1","quantity":0}]}', "$.items[0].quantity"),
        ('{"customerId":"c","items":[{"productId":"P1","quantity":1.5}]}', "$.items[0].quantity"),
        (
            '{"customerId":"c","items":[{"productId":"P","quantity":1},{"productId":"P","quantity":1}]}',
            "$.items",
        ),
        (
            '{"customerId":"c","items":['
            + ",".join(f'{{"productId":"P{n}","quantity":1}}' for n in range(4))
            + "]}",
            "$.items",
        ),
        ("[]", "$"),
        ("null", "$"),
    ],
)
def test_a_request_that_breaks_a_rule_is_a_422_that_names_the_field(raw: str, field: str) -> None:
    """Missing, contradictory, unknown, oversized and mistyped members are all refused."""
    with pytest.raises(Problem) as caught:
        order(raw)
    assert caught.value.status == 422
    assert caught.value.fields["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{'customerId': 1}",
        b"\xff\xfe",
        b'{"customerId":"c","total":NaN}',
        b'{"customerId":"c","total":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"customerId":"\\ud800","total":1}',
    ],
)
def test_what_is_not_json_is_a_400(raw: bytes) -> None:
    """Truncated, foreign, undecodable and absurdly nested bodies never reach a rule."""
    with pytest.raises(Problem) as caught:
        decode(ORDER, raw)
    assert caught.value.status == 400


def test_a_cancel_request_may_say_why() -> None:
    """The reason is optional and bounded."""
    cancel = msgspec.json.Decoder(CancelIn)
    assert decode(cancel, b"{}").reason == ""
    assert decode(cancel, b'{"reason":"changed my mind"}').reason == "changed my mind"
    with pytest.raises(Problem):
        decode(cancel, msgspec.json.encode({"reason": "x" * 201}))


def test_request_ids_are_taken_over_only_when_plain() -> None:
    """A client's id survives; header injection and oversize ids are replaced."""
    assert request_id("abc-12345") == "abc-12345"
    for bad in (None, "", "short", "a" * 129, "abc def ghi", "abc\r\nX: 1", "<script>"):
        assert re.fullmatch("[0-9a-f]{32}", request_id(bad))


def test_a_trace_is_continued_or_started_anew() -> None:
    """A valid traceparent keeps its trace and flags with a new span; others start a new trace."""
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    taken = begin(parse(given))
    assert taken.split("-")[1] == given.split("-")[1]
    assert taken.split("-")[2] != given.split("-")[2]
    assert taken.endswith("-01")
    for bad in ("", "junk", given.upper(), "00-" + "0" * 32 + "-b7ad6b7169203331-01"):
        made = begin(parse(bad))
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", made)
        assert made.split("-")[1] != given.split("-")[1]


@example(zeros=8, number=1, nines=4400)
@example(zeros=8, number=199, nines=3)
@given(st.integers(0, 12), st.integers(0, 300), st.integers(0, 12))
def test_a_limit_is_within_its_bounds_however_it_is_written(
    zeros: int, number: int, nines: int
) -> None:
    """What is returned is what was checked, and all that is not taken is a 400."""
    text = "0" * zeros + str(number) + "9" * nines
    request = make_mocked_request("GET", f"/api/orders?limit={text}")
    if len(text) <= 9 and 1 <= int(text) <= LIMIT_MAX:
        assert limit_of(request) == int(text)
        return
    with pytest.raises(Problem) as refused:
        limit_of(request)
    assert refused.value.status == 400
