"""The verdict as one self-contained HTML page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from chaos.auditor.report.text import clock, sentence


def page(document: Mapping[str, Any]) -> str:
    """Return the page; it loads nothing, so it can be mailed or kept as an artifact."""
    return _template().render(audit=document, sentence=sentence(document), clock=clock)


@lru_cache(maxsize=1)
def _template() -> Template:
    loader = PackageLoader("chaos.auditor.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    return environment.get_template("audit.html")
