"""What a GameDay leaves: a page with charts, Markdown, JUnit, and the journal itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.gameday.report.junit import junit
from chaos.gameday.report.markdown import markdown
from chaos.gameday.report.page import page


def write_all(directory: Path, journal: Mapping[str, Any]) -> bytes:
    """Write all files of a run into `directory`; returns the page."""
    directory.mkdir(parents=True, exist_ok=True)
    html = page(journal).encode()
    (directory / "journal.json").write_text(json.dumps(journal, indent=1))
    (directory / "report.html").write_bytes(html)
    (directory / "report.md").write_text(markdown(journal))
    (directory / "junit.xml").write_text(junit(journal))
    return html
