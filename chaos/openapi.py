"""What a laboratory adds to the HTTP API, and its description in OpenAPI 3.1.

`python -m chaos.openapi > docs/reference/openapi-lab.json` writes it. No production server has
these routes; GET /openapi.json of a lab's server tells the product's and these together.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from chaos.control import cloudcart, payment_mode
from chaos.control.web import RULE_ROUTES
from chaos.gameday import web as gameday
from web.openapi import About, encoded

if TYPE_CHECKING:
    from web.routes import Route

LAB_ROUTES: Final[tuple[Route, ...]] = (
    *RULE_ROUTES,
    *cloudcart.ROUTES,
    *payment_mode.ROUTES,
    *gameday.ROUTES,
)
ABOUT: Final = About(
    "Chaos Symphony, the laboratory",
    "What a lab's server has beside the product's API: chaos rules, the chaos of the API, the"
    " simulated payment provider and GameDays. No production server has it.",
)


def main() -> None:
    """Write the description to standard output."""
    sys.stdout.buffer.write(encoded(LAB_ROUTES, ABOUT))


if __name__ == "__main__":
    main()
