"""The one place that makes the application of a role."""

from __future__ import annotations

from importlib import import_module
from uuid import uuid4

from app.delivery.app import App
from app.delivery.killer import KillerJournal
from app.errors import Definite
from app.roles import role_named
from app.settings import Settings


class NotALab(Definite):
    """Laboratory code was asked for outside a lab."""

    code = "not_a_lab"
    doc = "A plug-in or lab-only role was configured without `lab = true`."


def create_app(settings: Settings) -> App:
    """Make the Faust application of `settings.role`: its agents and tables, nothing started.

    Raises LookupError for an unknown role and NotALab for laboratory code outside a lab.
    """
    role = role_named(settings.role)
    if not settings.incarnation:
        settings = settings.model_copy(update={"incarnation": uuid4().hex[:12]})
    if role.lab_only and not settings.lab:
        raise NotALab(f"role {role.name} runs in a lab only: set lab = true")
    app = App(settings, role)
    app.killer = KillerJournal(app)
    for module in role.modules:
        import_module(module).register(app)
    for name in settings.plugin_modules:
        if not settings.lab:
            raise NotALab(f"plug-in {name} may be installed in a lab only: set lab = true")
        import_module(name).install(app)
    return app
