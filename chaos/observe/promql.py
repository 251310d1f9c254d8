"""Pieces of PromQL that more than one rule or panel needs."""

from __future__ import annotations


def grown(selector: str, window: str) -> str:
    """By how much each counter of `selector` grew in `window`.

    `increase` alone misses the first event of all: the series begins with it, at 1. A series that
    was not there a window ago has grown by all that it shows.
    """
    return f"(({selector} unless {selector} offset {window}) or increase({selector}[{window}]))"


def quantile(q: float, histogram: str, window: str, *by: str, where: str = "") -> str:
    """The quantile `q` of a histogram over `window`, by the labels `by`."""
    labels = ", ".join((*by, "le"))
    return (
        f"histogram_quantile({q:g}, sum by ({labels}) (rate({histogram}_bucket{where}[{window}])))"
    )


def ratio_of(part: str, whole: str) -> str:
    """`part` / `whole`, both sums; 0 where no `part` was ever seen, nothing without `whole`."""
    return f"({part} or {whole} * 0) / {whole}"
