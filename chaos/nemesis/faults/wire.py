"""One exchange with a server as it looks on the wire: how long, in what pieces, how it ended.

A single connection with each server's simplest question; none of them changes anything.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import NamedTuple

PIECE = 65536


class Seen(NamedTuple):
    """What a client saw: times in seconds from the connection on, `pieces` as received.

    `ended` is `open` (it was answered and the connection stands), `closed`, `reset`, `refused` or
    `silent` (nothing more came in time); `ended_s` when that was known.
    """

    connected_s: float
    pieces: tuple[int, ...]
    first_s: float
    last_s: float
    ended: str
    ended_s: float

    @property
    def received(self) -> int:
        """Bytes of the answer."""
        return sum(self.pieces)


def question(server: str) -> bytes:
    """What `server` (kafka, postgres or gateway) is asked."""
    if server == "kafka":  # ApiVersions v0
        body = struct.pack(">hhih", 18, 0, 1, -1)
        return struct.pack(">i", len(body)) + body
    if server == "postgres":  # StartupMessage 3.0
        body = struct.pack(">i", 196608) + b"user\0symphony\0database\0symphony\0\0"
        return struct.pack(">i", len(body) + 4) + body
    return b"GET /v1/mode HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"


def exchange(server: str, host: str, port: int, *, quiet_s: float) -> Seen:
    """Ask `server` and listen until nothing came for `quiet_s`, or the connection ended."""
    began = time.monotonic()
    pieces: list[int] = []
    first_s, last_s, connected_s, ended = 0.0, 0.0, 0.0, "silent"
    try:
        with socket.create_connection((host, port), timeout=quiet_s) as connection:
            connected_s = time.monotonic() - began
            connection.sendall(question(server))
            while piece := connection.recv(PIECE):
                last_s = time.monotonic() - began
                first_s = first_s or last_s
                pieces.append(len(piece))
            ended = "closed"
    except ConnectionRefusedError:
        ended = "refused"
    except (ConnectionResetError, BrokenPipeError):
        ended = "reset"
    except TimeoutError:
        ended = "open" if pieces else "silent"
    return Seen(connected_s, tuple(pieces), first_s, last_s, ended, time.monotonic() - began)
