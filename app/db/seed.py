"""The demonstration catalogue: prices, stock, one scarce and two sold-out products.

AMOUNT is the untracked product that an amount-only order consists of; it has no stock row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

CURRENCY = "EUR"
UNTRACKED_SKU = "AMOUNT"


class SeedProduct(NamedTuple):
    """One product; `stock` None means that it is not tracked."""

    sku: str
    name: str
    category: str
    price_minor: int
    stock: int | None


CATALOGUE = (
    SeedProduct(UNTRACKED_SKU, "Amount", "amount", 0, None),
    SeedProduct("VIOLIN", "Violin", "strings", 129_900, 20_000),
    SeedProduct("VIOLA", "Viola", "strings", 149_900, 20_000),
    SeedProduct("CELLO", "Cello", "strings", 289_900, 20_000),
    SeedProduct("BASS", "Double bass", "strings", 459_900, 5),
    SeedProduct("HARP", "Concert harp", "strings", 1_899_900, 0),
    SeedProduct("FLUTE", "Flute", "woodwind", 89_900, 50_000),
    SeedProduct("OBOE", "Oboe", "woodwind", 219_900, 50_000),
    SeedProduct("CLARINET", "Clarinet", "woodwind", 119_900, 50_000),
    SeedProduct("TRUMPET", "Trumpet", "brass", 79_900, 50_000),
    SeedProduct("HORN", "French horn", "brass", 319_900, 50_000),
    SeedProduct("TIMPANI", "Timpani", "percussion", 689_900, 20_000),
    SeedProduct("TRIANGLE", "Triangle", "percussion", 1_900, 500_000),
    SeedProduct("BATON", "Conductor's baton", "accessories", 2_400, 500_000),
    SeedProduct("ROSIN", "Rosin", "accessories", 990, 1_000_000),
    SeedProduct("REED", "Reed", "accessories", 1_290, 1_000_000),
    SeedProduct("MUTE", "Violin mute", "accessories", 2_900, 0),
)

_PRODUCTS = text(
    "insert into catalog.product (sku, name, category, price_minor, currency, tracked)"
    " values (:sku, :name, :category, :price_minor, :currency, :tracked)"
    " on conflict (sku) do nothing"
)
_STOCK = text(
    "insert into inventory.stock (sku, available, restocked) values (:sku, :stock, :stock)"
    " on conflict (sku) do nothing"
)
_KNOWN = text("select count(*) from catalog.product where sku in :skus").bindparams(
    bindparam("skus", expanding=True)
)


def insert_catalogue(connection: Connection) -> int:
    """Insert what is missing of the catalogue; return how many products were new."""
    known = connection.execute(_KNOWN, {"skus": [one.sku for one in CATALOGUE]}).scalar_one()
    for one in CATALOGUE:
        values = {**one._asdict(), "currency": CURRENCY, "tracked": one.stock is not None}
        connection.execute(_PRODUCTS, values)
        if one.stock is not None:
            connection.execute(_STOCK, {"sku": one.sku, "stock": one.stock})
    return len(CATALOGUE) - int(known)
