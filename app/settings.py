"""Settings: loaded from all their sources, with the origin of each value told.

Precedence: command line > `SYMPHONY_*` > `.env` > `faust.ini` > default. Unknown keys are errors
wherever they stand. Nothing else in the product reads the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from configparser import ConfigParser, DuplicateOptionError
from configparser import Error as IniError
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError

from app.errors import InvalidSettings
from app.settings_model import PRODUCTION_DEFAULTS, Settings, extra_of

__all__ = ["Loaded", "Origin", "Settings", "config_template", "load", "load_settings"]

ENV_PREFIX = "SYMPHONY_"
CONFIG_FILE = "faust.ini"
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")


class Origin(NamedTuple):
    """One setting as `symphony config show` prints it; `value` has its secrets masked."""

    name: str
    value: str
    unit: str
    origin: str
    description: str


class Loaded(NamedTuple):
    """Settings and, for each key that was set somewhere, where."""

    settings: Settings
    origins: Mapping[str, str]

    def rows(self) -> list[Origin]:
        """Every setting in the order of `faust.ini`."""
        return [
            Origin(
                name,
                masked(getattr(self.settings, name)),
                extra_of(name)["unit"],
                self.origins.get(name) or self._default_origin(name),
                Settings.model_fields[name].description or "",
            )
            for name in Settings.model_fields
        ]

    def _default_origin(self, name: str) -> str:
        production = self.settings.profile == "production" and name in PRODUCTION_DEFAULTS
        return "default (production)" if production else "default"


def masked(value: Any) -> str:
    """A setting's value as text, without the password a URL in it may carry."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return _URL_PASSWORD.sub(r"\1****@", text)


def load_settings(*, config_file: Path | None = None, **overrides: Any) -> Settings:
    """Settings from all sources; `overrides` (the command line) win, None means not given.

    Raises app.errors.InvalidSettings naming key, source and what to do.
    """
    return load(config_file=config_file, **overrides).settings


def load(*, config_file: Path | None = None, **overrides: Any) -> Loaded:
    """Like `load_settings`, together with the origin of every value."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in _layers(config_file, overrides):
        for key, value in layer.items():
            if key not in Settings.model_fields:
                raise _unknown(key, origin)
            values[key] = value
            origins[key] = origin
    try:
        return Loaded(Settings(**values), origins)
    except ValidationError as error:
        raise InvalidSettings(_explain(error, origins)) from None


def _layers(
    config_file: Path | None, overrides: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """The sources, weakest first."""
    ini = config_file or _find_config()
    environment = {
        key.removeprefix(ENV_PREFIX).lower(): value
        for key, value in os.environ.items()
        if key.startswith(ENV_PREFIX)
    }
    dotenv = {
        key.removeprefix(ENV_PREFIX).lower(): value
        for key, value in dotenv_values(".env").items()
        if key.startswith(ENV_PREFIX) and value is not None
    }
    return [
        (str(ini), _read_ini(ini) if ini else {}),
        (".env", dotenv),
        ("environment", environment),
        ("command line", {key: value for key, value in overrides.items() if value is not None}),
    ]


def _find_config() -> Path | None:
    """`faust.ini` of the working directory, else the one beside the packages."""
    for place in (Path(), Path(__file__).parent.parent):
        if (place / CONFIG_FILE).is_file():
            return place / CONFIG_FILE
    return None


def _read_ini(path: Path) -> dict[str, Any]:
    """All keys of all sections; sections only group, so a key may stand once in the whole file."""
    parser = ConfigParser(interpolation=None, default_section="__none__")
    try:
        with path.open() as file:
            parser.read_file(file)
    except FileNotFoundError:
        raise InvalidSettings(f"there is no settings file {path}") from None
    except DuplicateOptionError as error:
        raise InvalidSettings(f"{path}, line {error.lineno}: {error.option} twice") from None
    except IniError as error:
        raise InvalidSettings(f"{path}: {' '.join(str(error).split())}") from None
    values: dict[str, Any] = {}
    for section in parser.sections():
        for key, value in parser.items(section):
            if key in values:
                raise InvalidSettings(f"{path}: {key} stands in two sections")
            values[key] = value
    return values


def _unknown(key: str, origin: str) -> InvalidSettings:
    name = f"{ENV_PREFIX}{key.upper()}" if origin in ("environment", ".env") else key
    near = get_close_matches(key, Settings.model_fields, n=1, cutoff=0.5)
    hint = f": did you mean {near[0]}?" if near else ": `symphony config show` lists all settings"
    return InvalidSettings(f"unknown setting {name} ({origin}){hint}")


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    """One line for all that pydantic found."""
    parts = []
    for problem in error.errors():
        text = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            key = str(problem["loc"][0])
            unit = extra_of(key)["unit"]
            shown = masked(problem["input"]) if key != "postgres_dsn" else "****"
            text = f"{key} = {shown!r} ({origins.get(key, 'default')}; unit: {unit}): {text}"
        parts.append(text)
    return "; ".join(parts)


def config_template() -> str:
    """The text of `faust.ini`: every setting with meaning, unit and default, all commented out."""
    lines = [
        "# Settings of Chaos Symphony. Faust itself reads no such file: this one is ours.",
        "# Precedence: command line > SYMPHONY_<KEY> > .env > this file > default.",
        "# Uncomment a line to change its default; sections only group. Unknown keys are errors.",
    ]
    group = ""
    for name, field in Settings.model_fields.items():
        extra = extra_of(name)
        if extra["group"] != group:
            group = extra["group"]
            lines += ["", f"[{group}]"]
        production = extra["production"]
        other = "" if production is None else f"; production: {production}"
        lines.append(f"# {field.description} [{extra['unit']}{other}]")
        lines.append(f"#{name} = {masked(field.default)}".rstrip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(config_template(), end="")
