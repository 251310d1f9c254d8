"""Where everything listens, and the same with the proxy in front of the three servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from chaos.lab.process import LabError

PROXIES = ("kafka", "postgres", "gateway")
"""The names of the proxies, as the API of the proxy knows them."""
_POSTGRES_PORT = 5432


class Addresses(NamedTuple):
    """Where everything listens."""

    bootstrap: str
    dsn: str
    gateway_url: str
    web_url: str


def upstreams(direct: Addresses, kafka: str) -> dict[str, str]:
    """HOST:PORT behind each proxy; `kafka` is the broker's listener for the proxy.

    Raises LabError when the database is not reached by TCP.
    """
    return {
        "kafka": kafka,
        "postgres": endpoint_of(direct.dsn),
        "gateway": urlsplit(direct.gateway_url).netloc,
    }


def proxied(direct: Addresses, listen: Mapping[str, str]) -> Addresses:
    """The addresses for workers: the three servers by way of their proxies."""
    dsn = urlsplit(direct.dsn)
    user, at, _ = dsn.netloc.rpartition("@")
    return direct._replace(
        bootstrap=listen["kafka"],
        dsn=urlunsplit(dsn._replace(netloc=f"{user}{at}{listen['postgres']}")),
        gateway_url=urlunsplit(urlsplit(direct.gateway_url)._replace(netloc=listen["gateway"])),
    )


def endpoint_of(dsn: str) -> str:
    """HOST:PORT of a database URL. Raises LabError when it names no single TCP address."""
    parts = urlsplit(dsn)
    try:
        host, port = parts.hostname, parts.port or _POSTGRES_PORT
    except ValueError:
        host, port = None, 0
    if not host or "/" in host or "%" in host or "," in parts.netloc or "host=" in parts.query:
        raise LabError(
            "the proxy needs a database URL with one host (postgresql://USER@HOST:PORT/DATABASE):"
            " name that host, or leave --proxy out"
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
