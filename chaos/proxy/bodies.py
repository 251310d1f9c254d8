"""Request bodies: what each may hold, decoded strictly, with an error that says what is wrong."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from chaos.proxy.errors import bad_body, invalid_stream, invalid_toxic_type, missing_field
from chaos.proxy.stats import STREAMS
from chaos.proxy.toxics import KINDS
from chaos.proxy.toxics.stage import DAY_MS, Attributes

LeaseMs = Annotated[int, msgspec.Meta(ge=1, le=DAY_MS)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name = Annotated[str, msgspec.Meta(max_length=200)]

T = TypeVar("T")


class ProxyBody(msgspec.Struct, kw_only=True):
    """A new proxy. `listen` with port 0 or without a value picks a free port."""

    name: Name = ""
    listen: str = "127.0.0.1:0"
    upstream: str = ""
    enabled: bool | None = None

    def check(self, where: str = "") -> None:
        """Raise ApiError when something is missing or no address."""
        for field in ("name", "upstream"):
            if not getattr(self, field):
                raise missing_field(field + where)
        split_address(self.listen)
        split_address(self.upstream)


class ProxyChange(msgspec.Struct, kw_only=True):
    """Fields of a proxy to change; None leaves one as it is."""

    listen: str | None = None
    upstream: str | None = None
    enabled: bool | None = None
    lease_ms: LeaseMs | None = None

    def check(self) -> None:
        """Raise ApiError when an address is none."""
        for address in (self.listen, self.upstream):
            if address is not None:
                split_address(address)


class ToxicBody(msgspec.Struct, kw_only=True):
    """A new toxic; its attributes are decoded when its type is known."""

    name: Name = ""
    type: str = ""
    stream: str = "downstream"
    toxicity: Share = 1.0
    attributes: dict[str, Any] = {}
    lease_ms: LeaseMs | None = None

    def check(self) -> ToxicBody:
        """The same with all defaults filled in. Raises ApiError."""
        stream = self.stream.lower()
        if stream not in STREAMS:
            raise invalid_stream()
        if self.type not in KINDS:
            raise invalid_toxic_type(self.type, ", ".join(KINDS))
        return msgspec.structs.replace(
            self, stream=stream, name=self.name or f"{self.type}_{stream}"
        )


class ToxicChange(msgspec.Struct, kw_only=True):
    """Attributes to change, the others stay; name, type and stream of a toxic are for ever."""

    toxicity: Share | None = None
    attributes: dict[str, Any] = {}
    lease_ms: LeaseMs | None = None


def decode(raw: bytes, kind: type[T]) -> T:
    """A request body as `kind`. Raises ApiError."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise bad_body(str(error)) from None


def attributes_of(
    kind: str, values: dict[str, Any], before: Attributes | None = None
) -> Attributes:
    """The attributes of a toxic of type `kind`, those of `before` where none is given.

    Raises ApiError for an unknown name, a wrong type, or a value out of its range.
    """
    wanted = KINDS[kind].attributes_type
    merged = {**(msgspec.structs.asdict(before) if before is not None else {}), **values}
    try:
        attributes = msgspec.convert(merged, wanted)
    except msgspec.ValidationError as error:
        raise bad_body(f"attributes of {kind}: {error}") from None
    if problem := attributes.problem():
        raise bad_body(f"attributes of {kind}: {problem}")
    return attributes


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [HOST]:PORT. Raises ApiError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise bad_body(f"{address!r} is no address: HOST:PORT is expected")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
