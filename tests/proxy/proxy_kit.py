"""The proxy as a process, a client of its API, and servers to put behind it."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE_S = 20.0
HOST = "127.0.0.1"


class Answer(NamedTuple):
    """Status and JSON body (None when there is none)."""

    status: int
    body: Any


class ProxyProcess:
    """A running `python -m chaos.proxy`."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chaos.proxy", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines: list[dict[str, Any]] = []
        for text in self.process.stdout:
            self.lines.append(json.loads(text))
            if self.lines[-1]["event"] == "listening":
                break
        self.url = f"http://{HOST}:{self.lines[-1]['port']}"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.lines.append(json.loads(text))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; `body` is sent as JSON, bytes as they are."""
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, raw, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
                text = reply.read()
                return Answer(reply.status, json.loads(text) if text else None)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.loads(error.read()))

    def want(self, method: str, path: str, body: Any = None) -> Any:
        """One request that must succeed; its body."""
        answer = self.call(method, path, body)
        assert answer.status < 300, answer
        return answer.body

    def poison(self, proxy: str, kind: str, **fields: Any) -> Any:
        """Add a toxic; keywords that are no fields of a toxic are attributes."""
        own = {key: fields.pop(key) for key in list(fields) if key in _TOXIC_FIELDS}
        body = {"type": kind, "attributes": fields, **own}
        return self.want("POST", f"/proxies/{proxy}/toxics", body)

    def stats(self, proxy: str) -> dict[str, Any]:
        """The counters of a proxy."""
        found: dict[str, Any] = self.want("GET", f"/proxies/{proxy}")["stats"]
        return found


_TOXIC_FIELDS = {"name", "stream", "toxicity", "lease_ms"}


class Server:
    """A TCP server; `handle` gets each connection in a thread of its own."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._handle = handle
        self._listener = socket.create_server((HOST, 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Refuse new connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._handle(connection)
            except OSError:
                return


def echo(connection: socket.socket) -> None:
    """Send back all that comes, until it ends."""
    while data := connection.recv(65536):
        connection.sendall(data)


@contextmanager
def serving(handle: Callable[[socket.socket], None]) -> Iterator[Server]:
    """A server for a while."""
    server = Server(handle)
    try:
        yield server
    finally:
        server.close()


class Door:
    """A proxy of one test, made in `process` with its own name."""

    def __init__(self, process: ProxyProcess, name: str, upstream: str) -> None:
        self.process, self.name = process, name
        body = {"name": name, "upstream": upstream}
        self.listen: str = process.want("POST", "/proxies", body)["listen"]

    def connect(self) -> socket.socket:
        """A client's connection through the proxy."""
        host, _, port = self.listen.rpartition(":")
        client = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def poison(self, kind: str, **fields: Any) -> Any:
        """Add a toxic."""
        return self.process.poison(self.name, kind, **fields)

    def heal(self, toxic: str) -> None:
        """Remove a toxic."""
        self.process.want("DELETE", f"/proxies/{self.name}/toxics/{toxic}")

    def change(self, **fields: Any) -> Any:
        """Update the proxy."""
        return self.process.want("POST", f"/proxies/{self.name}", fields)

    @property
    def stats(self) -> dict[str, Any]:
        """Its counters."""
        return self.process.stats(self.name)


def exchange(client: socket.socket, data: bytes = b"ping") -> float:
    """Send and get back the same; seconds it took."""
    started = time.monotonic()
    client.sendall(data)
    assert receive(client, len(data)) == data
    return time.monotonic() - started


def receive(client: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, fewer only when the stream ends before."""
    parts = []
    while count:
        part = client.recv(min(count, 1 << 20))
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def silent(client: socket.socket, for_s: float) -> bool:
    """Whether nothing at all comes for so long, the end of the stream included."""
    client.settimeout(for_s)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE_S)
    return False


def reset(client: socket.socket) -> None:
    """Close by RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def write_config(directory: Path, rows: Any) -> Path:
    """A configuration file."""
    file = directory / "proxies.json"
    file.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return file
