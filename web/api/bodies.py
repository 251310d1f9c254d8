"""Request bodies: what clients may say, checked before anything else happens.

Guarantees: a decoded body is complete, within its bounds and free of control characters; money
is exact minor units. Unknown members are refused. It knows nothing of prices in the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Raw, Struct, field

from web.api.money import BadMoney, parse_minor
from web.problems import Problem, invalid

CUSTOMER_MAX: Final = 100
ADDRESS_MAX: Final = 500
QUANTITY_MAX: Final = 10_000
CURRENCY_DEFAULT: Final = "EUR"

Name = Annotated[str, Meta(min_length=1, max_length=CUSTOMER_MAX, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Text = Annotated[str, Meta(max_length=ADDRESS_MAX, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*\Z")]
Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
Currency = Annotated[str, Meta(min_length=3, max_length=3)]
AmountIn = Annotated[
    Raw,
    Meta(
        extra_json_schema={
            "anyOf": [
                {"type": "string", "pattern": r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?$"},
                {"type": "number", "exclusiveMinimum": 0, "maximum": 10**12},
            ],
        }
    ),
]
"""Money as people write it, a number or text; kept as it came, so that no digit is lost."""
Body = TypeVar("Body")

_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
_POINTER: Final = re.compile(r" - at `(.+?)`$")


class ItemIn(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One line of a request; `unit_price` is only compared with the catalogue's price."""

    product_id: Name
    quantity: Quantity
    unit_price: AmountIn = field(default_factory=Raw)


class OrderIn(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An order request in either shape: `total` + `currency`, or `items`."""

    customer_id: Name
    total: AmountIn = field(default_factory=Raw)
    currency: Currency | None = None
    items: list[ItemIn] | None = None
    shipping_address: Text | None = None


class CancelIn(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of a cancel request; may be absent."""

    reason: Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")] = ""


class Line(Struct, frozen=True):
    """A requested line of the catalogue; `unit_price` is the client's claim, as text, or empty."""

    product_id: str
    quantity: int
    unit_price: str


class OrderRequest(Struct, frozen=True):
    """A checked order request: `lines` is empty for an amount-only order of `total_minor`.

    `currency` is empty when an item list did not name one.
    """

    customer_id: str
    currency: str
    total_minor: int
    lines: tuple[Line, ...]
    shipping_address: str | None

    def digest(self) -> bytes:
        """Return 32 bytes that are equal for equal requests, whatever their spelling in JSON."""
        return blake2b(msgspec.msgpack.encode(self), digest_size=32).digest()


_ORDER = msgspec.json.Decoder(OrderIn)
_CANCEL = msgspec.json.Decoder(CancelIn)


async def read_order(request: web.Request, items_max: int) -> OrderRequest:
    """Return the order a request asks for; raises Problem 400, 413, 415 or 422."""
    body = decode(_ORDER, await read_json(request))
    return _check(body, items_max)


def order_of_query(query: Mapping[str, str]) -> OrderRequest:
    """Return the amount-only order of a query string; raises Problem 400 or 422."""
    if "amount" not in query or "customerId" not in query:
        raise Problem(400, "bad_parameter", "amount and customerId are needed.")
    names = {"customerId": "customerId", "amount": "total", "shippingAddress": "shippingAddress"}
    body = {member: query[name] for name, member in names.items() if name in query}
    return _check(decode(_ORDER, msgspec.json.encode(body)), items_max=0)


async def read_cancel(request: web.Request) -> CancelIn:
    """Return the cancel request; an absent body is one without a reason."""
    if not request.body_exists:
        return CancelIn()
    return decode(_CANCEL, await read_json(request))


async def read_json(request: web.Request) -> bytes:
    """Return the raw body of a JSON request; raises Problem 415 for another content type."""
    content_type = request.content_type
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise Problem(415, "unsupported_media_type", "The body must be application/json.")
    return await request.read()


def decode(decoder: msgspec.json.Decoder[Body], raw: bytes) -> Body:
    """Decode `raw`; raises Problem 400 when it is not JSON, 422 when it breaks the shape."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        text = str(error)
        pointer = _POINTER.search(text)
        raise invalid(_POINTER.sub("", text), pointer[1] if pointer else "") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Problem(400, "malformed_json", "The body is not valid JSON.") from None
    except RecursionError:
        raise Problem(400, "malformed_json", "The body is nested too deeply.") from None


def idempotency_key(request: web.Request) -> str:
    """Return the Idempotency-Key header or an empty string; raises Problem 400 for a bad one."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return ""
    if _KEY.fullmatch(given) is None:
        raise Problem(
            400, "bad_idempotency_key", "Idempotency-Key must be 1-200 visible ASCII characters."
        )
    return given


def amount_text(raw: Raw, pointer: str) -> str:
    """Return a JSON number or string as text, empty when absent or null; else Problem 422."""
    value = bytes(raw)
    if value in (b"", b"null"):
        return ""
    if value[:1] == b'"':
        return str(value[1:-1], "utf-8", "replace") or "-"
    if value[:1] not in b"-0123456789":
        raise invalid("must be a number or a string", pointer)
    return str(value, "utf-8", "replace")


def _check(body: OrderIn, items_max: int) -> OrderRequest:
    total = amount_text(body.total, "$.total")
    if (body.items is None) == (total == ""):
        raise invalid("give either total (with currency) or items")
    if body.items is None:
        currency = body.currency or CURRENCY_DEFAULT
        total_minor = money(total, currency, "$.total")
        return OrderRequest(body.customer_id, currency, total_minor, (), body.shipping_address)
    if not 0 < len(body.items) <= items_max:
        raise invalid(f"must have 1 to {items_max} items", "$.items")
    lines = tuple(_line(item, f"$.items[{at}]") for at, item in enumerate(body.items))
    if len({line.product_id for line in lines}) != len(lines):
        raise invalid("a product may stand in one line only", "$.items")
    return OrderRequest(body.customer_id, body.currency or "", 0, lines, body.shipping_address)


def _line(item: ItemIn, pointer: str) -> Line:
    claim = amount_text(item.unit_price, f"{pointer}.unitPrice")
    return Line(item.product_id, item.quantity, claim)


def money(text: str, currency: str, pointer: str) -> int:
    """Return exact minor units; raises Problem 422 naming `pointer`."""
    try:
        return parse_minor(text, currency)
    except BadMoney as error:
        raise invalid(str(error), pointer) from None
