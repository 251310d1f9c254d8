"""A YAML file with the line of everything in it, so that a mistake can be shown where it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

BYTES_MAX = 256 * 1024
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")

Place = tuple[str | int, ...]


class Mistake(Exception):
    """The file cannot be used; `line` counts from 1."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}")
        self.path, self.line, self.reason = path, line, reason


class Source:
    """A parsed file: its `data`, and `line_of` any place in it.

    Raises Mistake for what is no YAML mapping, for a key given twice, for anchors and for a file of
    more than 256 KiB.
    """

    def __init__(self, path: Path, text: str | None) -> None:
        self.path = path
        self._lines: dict[Place, int] = {(): 1}
        text = self._read() if text is None else text
        try:
            self._refuse_anchors(text)
            node = yaml.compose(text, Loader=LOADER)
            self._walk(node, ())
            data = yaml.load(text, Loader=LOADER)  # noqa: S506 (a safe loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else 1
            raise self.mistake((), f"this is not YAML: {error.problem}", line) from None
        except (yaml.YAMLError, ValueError) as error:
            raise self.mistake((), f"this is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(data, dict):
            raise self.mistake((), "an experiment is a mapping with title, description, method ...")
        self.data: dict[str, Any] = data

    def _read(self) -> str:
        try:
            if self.path.stat().st_size > BYTES_MAX:
                raise self.mistake((), f"an experiment has at most {BYTES_MAX} bytes")
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise self.mistake((), f"it cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise self.mistake((), "it is no UTF-8 text") from None

    def _refuse_anchors(self, text: str) -> None:
        """A few anchors that name each other make a small file a huge document."""
        for event in yaml.parse(text, Loader=LOADER):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1
                raise self.mistake((), "aliases (*name) are not read", line)

    def _walk(self, node: yaml.Node | None, place: Place) -> None:
        if node is None:
            return
        self._lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            known: set[str] = set()
            for key, value in node.value:
                name = str(key.value)
                line = key.start_mark.line + 1
                if name in known:
                    raise self.mistake(place, f"{name!r} stands here twice", line)
                known.add(name)
                self._lines[(*place, name)] = line
                self._walk(value, (*place, name))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._walk(value, (*place, number))

    def line_of(self, place: Place) -> int:
        """The line of a place, or of the nearest thing around it that is there."""
        while place not in self._lines:
            place = place[:-1]
        return self._lines[place]

    def mistake(self, place: Place, reason: str, line: int = 0) -> Mistake:
        """The mistake at `place`."""
        return Mistake(self.path, line or self.line_of(place), reason)


def place_of(pointer: str) -> Place:
    """The place of a pointer as msgspec writes it: `$.guard.every_s`, `$[...]` left out."""
    return tuple(int(number) if number else name for name, number in _STEP.findall(pointer))


def in_words(error: msgspec.ValidationError) -> str:
    """What msgspec finds wrong, as `member: reason`."""
    reason, _, pointer = str(error).partition(" - at `$.")
    return f"{pointer.rstrip('`')}: {reason}" if pointer else reason
