"""What every naive plug-in does: say loudly that this worker is unsafe now, and take a part out."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.delivery import App

EVENT = "naive.unsafe"

log = get_log(__name__)


def unsafe(app: App, module: str, cure: str, *roles: str) -> bool:
    """Whether `module` concerns this worker's role; if so, a warning names the missing `cure`.

    A plug-in is named to all workers of a lab and takes its cure out of `roles` only.
    """
    if app.role.name not in roles:
        return False
    log.warning(EVENT, plugin=module.rpartition(".")[2], without=cure, role=app.role.name)
    return True


def replace(module: ModuleType, name: str, naive: Any) -> None:
    """Put `naive` in the place of a module's `name`. Raises AttributeError when there is none."""
    getattr(module, name)
    setattr(module, name, naive)
