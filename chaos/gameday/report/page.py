"""The report as one self-contained HTML page. Pure."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from chaos.auditor.report.text import clock
from chaos.gameday.report import facts
from chaos.gameday.report.charts import charts, timeline
from chaos.gameday.report.facts import Journal


def page(journal: Journal) -> str:
    """Return the page; it loads nothing, so it can be mailed or kept as an artifact."""
    ours = facts.ours_of(journal)
    return _template().render(
        journal=journal,
        ours=ours,
        facts=facts,
        audit=ours["audit"],
        timeline=Markup(timeline(ours)),  # noqa: S704 (likewise)
        charts=[Markup(one) for one in charts(ours)],  # noqa: S704 (charts escapes what it shows)
        clock=clock,
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("chaos.gameday.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("gameday.html")
