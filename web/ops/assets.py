"""Static files under names that contain a hash of their content, so browsers keep them for good."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from web.problems import not_found

DIRECTORY: Final = Path(__file__).parent / "static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Asset(NamedTuple):
    """One static file, read once."""

    content: bytes
    content_type: str


def _load() -> tuple[dict[str, str], dict[str, Asset]]:
    names: dict[str, str] = {}
    files: dict[str, Asset] = {}
    for path in sorted(DIRECTORY.iterdir()):
        content = path.read_bytes()
        digest = blake2b(content, digest_size=6).hexdigest()
        names[path.name] = f"{path.stem}.{digest}{path.suffix}"
        files[names[path.name]] = Asset(content, TYPES[path.suffix])
    return names, files


_NAMES, _FILES = _load()


def asset(name: str) -> str:
    """Return the address of a static file by its plain name; raises KeyError for another name."""
    return f"/static/{_NAMES[name]}"


async def serve(request: web.Request) -> web.Response:
    """GET /static/{name}: immutable for a year, 404 for a name of another release."""
    found = _FILES.get(request.match_info["name"])
    if found is None:
        raise not_found("file")
    return web.Response(
        body=found.content,
        content_type=found.content_type,
        charset="utf-8",
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )
