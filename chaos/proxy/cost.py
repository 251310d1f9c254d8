"""`python -m chaos.proxy.cost`: what the proxy costs on this machine, without toxics.

Prints one JSON document: CPU per megabyte through the proxy, in bulk and in messages of 1 KB, and
the median time of a round trip of one message, direct and through the proxy.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

HOST = "127.0.0.1"
BULK_BYTES = 256 * 1024 * 1024
ROUNDS = 5000
MESSAGE = b"x" * 1024


def main() -> None:
    """Measure and print."""
    with _echo() as server, _proxy(server) as (process, port):
        direct_us = _round_trip_us(_connect(int(server.rpartition(":")[2])))
        before = _cpu_s(process)
        proxied_us = _round_trip_us(_connect(port))
        messages_s = _cpu_s(process) - before
        before, started = _cpu_s(process), time.perf_counter()
        _bulk(_connect(port))
        took_s, bulk_s = time.perf_counter() - started, _cpu_s(process) - before
    report = {
        "bulk_cpu_ms_per_mb": round(bulk_s * 1e3 / (2 * BULK_BYTES / 1e6), 3),
        "bulk_mb_per_s": round(2 * BULK_BYTES / 1e6 / took_s),
        "message_cpu_us": round(messages_s * 1e6 / (2 * ROUNDS), 1),
        "round_trip_direct_us": round(direct_us, 1),
        "round_trip_proxied_us": round(proxied_us, 1),
        "added_us": round(proxied_us - direct_us, 1),
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


def _round_trip_us(client: socket.socket) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        client.sendall(MESSAGE)
        left = len(MESSAGE)
        while left:
            left -= len(client.recv(left))
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def _bulk(client: socket.socket) -> None:
    sender = threading.Thread(target=_pour, args=(client,))
    sender.start()
    left = BULK_BYTES
    while left:
        left -= len(client.recv(1024 * 1024))
    sender.join()


def _pour(client: socket.socket) -> None:
    part = b"x" * 65536
    for _ in range(BULK_BYTES // len(part)):
        client.sendall(part)


def _connect(port: int) -> socket.socket:
    client = socket.create_connection((HOST, port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _echo() -> Iterator[str]:
    """An echo server in a thread; its address."""
    listener = socket.create_server((HOST, 0))

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_answer, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield "{}:{}".format(*listener.getsockname())
    listener.close()


def _answer(client: socket.socket) -> None:
    while data := client.recv(65536):
        client.sendall(data)


@contextmanager
def _proxy(upstream: str) -> Iterator[tuple[psutil.Process, int]]:
    """A proxy process before `upstream`; the process and the port to connect to."""
    command = [sys.executable, "-m", "chaos.proxy", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        url = f"http://{HOST}:{json.loads(child.stdout.readline())['port']}/proxies"
        body = json.dumps({"name": "measured", "upstream": upstream}).encode()
        with urllib.request.urlopen(url, body) as answer:
            listen = json.loads(answer.read())["listen"]
        try:
            yield psutil.Process(child.pid), int(listen.rpartition(":")[2])
        finally:
            child.terminate()


if __name__ == "__main__":
    main()
