"""Reading an experiment: from a file that is checked, or from what Chaos Toolkit has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.gameday.checks import check
from chaos.gameday.experiment import EXTENSION, Experiment, Knobs, Ours
from chaos.gameday.source import Mistake, Place, Source, in_words, place_of


def load(path: Path, text: str | None = None) -> Experiment:
    """Read and check an experiment. Raises Mistake with the line and what is wrong."""
    source = Source(path, text)
    place, ours = _extension(source)
    knobs = _knobs(source)
    check(source, place, ours)
    return Experiment(path.stem, path, source.data, ours, knobs)


def of_data(data: dict[str, Any], configuration: Mapping[str, Any]) -> Experiment:
    """The experiment that somebody else has loaded and now runs with this configuration.

    Raises Mistake when what is ours in it is absent or of another form.
    """
    ours = next((one for one in data.get("extensions", ()) if one.get("name") == EXTENSION), None)
    if ours is None:
        raise Mistake(Path(str(data.get("title"))), 1, f"there is no extension {EXTENSION}")
    known = {field.name for field in msgspec.structs.fields(Knobs)}
    try:
        return Experiment(
            str(data["title"]),
            Path(),
            data,
            msgspec.convert(ours, Ours),
            msgspec.convert(
                {key: value for key, value in configuration.items() if key in known},
                Knobs,
                strict=False,  # `chaos run --var` gives texts
            ),
        )
    except msgspec.ValidationError as error:
        raise Mistake(Path(str(data["title"])), 1, in_words(error)) from None


def _extension(source: Source) -> tuple[Place, Ours]:
    listed = source.data.get("extensions")
    if not isinstance(listed, list):
        raise source.mistake(("extensions",), f"extensions must hold one named {EXTENSION}")
    for number, one in enumerate(listed):
        if isinstance(one, dict) and one.get("name") == EXTENSION:
            place: Place = ("extensions", number)
            return place, _converted(source, place, one, Ours)
    raise source.mistake(("extensions",), f"there is no extension {EXTENSION}")


def _knobs(source: Source) -> Knobs:
    found: Knobs = _converted(
        source, ("configuration",), source.data.get("configuration", {}), Knobs
    )
    return found


def _converted(source: Source, place: Place, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, pointer = str(error).partition(" - at `")
        inside = place_of(pointer.rstrip("`"))
        name = ".".join(map(str, inside)) or str(place[0])
        if field := _unknown_field(reason):
            inside = (*inside, field)
            known = ", ".join(field.name for field in msgspec.structs.fields(kind))
            reason = f"unknown; known here: {known}" if len(inside) == 1 else reason
            name = ".".join(map(str, inside))
        raise source.mistake((*place, *inside), f"{name}: {reason}") from None


def _unknown_field(reason: str) -> str:
    before, quote, name = reason.rpartition("unknown field `")
    del before
    return name.rstrip("`") if quote else ""
