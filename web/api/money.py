"""Money as people write it (12.50) to integer minor units (1250) and back, without floats.

Guarantees: exact or refused; never rounds. Exponents are those of ISO 4217.
"""

from __future__ import annotations

import re
from typing import Final

MINOR_MAX: Final = 10**12
"""Largest accepted total of an order, in minor units."""

EXPONENTS: Final = {
    "AUD": 2,
    "BHD": 3,
    "CAD": 2,
    "CHF": 2,
    "CNY": 2,
    "CZK": 2,
    "DKK": 2,
    "EUR": 2,
    "GBP": 2,
    "HUF": 2,
    "INR": 2,
    "JPY": 0,
    "KRW": 0,
    "KWD": 3,
    "NOK": 2,
    "PLN": 2,
    "RON": 2,
    "SEK": 2,
    "TND": 3,
    "USD": 2,
}
"""Accepted currencies and how many decimals each has."""

_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]{0,14})(?:\.([0-9]{1,15}))?")


class BadMoney(ValueError):
    """The text is not an amount of the currency; the message says why and is safe to show."""


def parse_minor(text: str, currency: str) -> int:
    """Return the minor units of `text`, plain decimal digits in major units (`"12.5"` EUR: 1250).

    Raises BadMoney for an unknown currency, a sign, an exponent, spaces, more decimals than the
    currency has (zeros excepted), zero, or more than MINOR_MAX.
    """
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise BadMoney(f"currency must be one of {', '.join(EXPONENTS)}")
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise BadMoney("must be a positive decimal number without sign, exponent or spaces")
    decimals = (match[2] or "").rstrip("0")
    if len(decimals) > exponent:
        raise BadMoney(f"{currency} has {exponent} decimals")
    minor = int(match[1] + decimals.ljust(exponent, "0"))
    if not 0 < minor <= MINOR_MAX:
        raise BadMoney("must be greater than 0 and at most 10^12 minor units")
    return minor


def format_minor(minor: int, currency: str) -> str:
    """Return minor units as people read them (1250 EUR: `"12.50"`); unknown currencies have 2."""
    exponent = EXPONENTS.get(currency, 2)
    if exponent == 0:
        return str(minor)
    digits = str(abs(minor)).rjust(exponent + 1, "0")
    return f"{'-' if minor < 0 else ''}{digits[:-exponent]}.{digits[-exponent:]}"
