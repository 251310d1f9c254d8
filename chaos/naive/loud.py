"""What every naive plug-in does: say loudly that this worker is unsafe now, and take a part out."""

from __future__ import annotations

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


def replace(owner: Any, name: str, naive: Any) -> Any:
    """Put `naive` in the place of `owner.name` and return what was there.

    `owner` is a module, a class or an object. Raises AttributeError when it has no such part: the
    seam has moved, and a plug-in that takes nothing out would prove the wrong thing.
    """
    cured = getattr(owner, name)
    setattr(owner, name, naive)
    return cured


def handlers(app: App) -> list[Any]:
    """The handlers of this worker's consumers, as its role has made them."""
    return [runner.spec.handler for runner in app.runners]
