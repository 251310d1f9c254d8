"""The platform's core: what agents, tables, web and chaos stand on.

`faust -A app worker` finds `app` here: the application of the role in SYMPHONY_ROLE, made when it
is first asked for.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Make the application on first use (PEP 562); importing the package alone costs nothing."""
    if name != "app":
        raise AttributeError(f"module 'app' has no attribute {name!r}")
    from app.factory import create_app
    from app.settings import load_settings

    made = globals()["app"] = create_app(load_settings())
    return made
