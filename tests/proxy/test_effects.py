"""What each toxic does to real connections, seen from both ends, and what the counters say."""

from __future__ import annotations

import hashlib
import queue
import random
import socket
import threading
import time
from itertools import count

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.proxy.memory import LINK_MAX_BYTES, LINK_MIN_BYTES, Memory
from tests.proxy.proxy_kit import (
    HOST,
    PATIENCE_S,
    Door,
    ProxyProcess,
    Server,
    exchange,
    receive,
    reset,
    serving,
    silent,
)
from tests.waiting import wait_until

_numbers = count(1)
MEGABYTE = 1024 * 1024


def test_without_toxics_bytes_pass_in_both_directions(door: Door) -> None:
    """Megabytes arrive unchanged, and are counted."""
    client = door.connect()
    content = random.Random(1).randbytes(8 * MEGABYTE)
    sender = threading.Thread(target=client.sendall, args=(content,))
    sender.start()
    assert receive(client, len(content)) == content
    sender.join()
    stats = door.stats
    assert stats["bytes_upstream"] == stats["bytes_downstream"] == len(content)
    assert (stats["connections"], stats["connections_open"]) == (1, 1)
    assert stats["bytes_held"] == stats["bytes_delayed"] == stats["bytes_dropped"] == 0


def test_a_half_close_stays_one(process: ProxyProcess) -> None:
    """A client that has finished sending still gets the whole answer."""

    def digest(connection: socket.socket) -> None:
        total = hashlib.sha256()
        while data := connection.recv(65536):
            total.update(data)
        connection.sendall(total.digest())

    with serving(digest) as server:
        door = Door(process, "digest", server.address)
        client = door.connect()
        content = random.Random(2).randbytes(MEGABYTE)
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 1000) == hashlib.sha256(content).digest()
        wait_until(
            lambda: door.stats["connections_open"] == 0, timeout_s=PATIENCE_S, what="all is closed"
        )


def test_an_rst_of_one_side_reaches_the_other(process: ProxyProcess) -> None:
    """A server that resets resets the client, a client that resets the server."""
    seen: queue.Queue[str] = queue.Queue()

    def watch(connection: socket.socket) -> None:
        if connection.recv(10) == b"go":
            reset(connection)
            return
        try:
            connection.recv(10)
            seen.put("ended")
        except ConnectionResetError:
            seen.put("reset")

    with serving(watch) as server:
        door = Door(process, "rst", server.address)
        client = door.connect()
        client.sendall(b"go")
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        client = door.connect()
        client.sendall(b"stay")
        wait_until(
            lambda: door.stats["bytes_upstream"] == 6, timeout_s=PATIENCE_S, what="it has arrived"
        )
        reset(client)
        assert seen.get(timeout=PATIENCE_S) == "reset"
    assert door.stats["resets"] == 0


def test_a_server_that_is_not_there_closes_the_client(process: ProxyProcess) -> None:
    """The client is accepted and closed, and that is counted."""
    with socket.create_server((HOST, 0)) as gone:
        address = "{}:{}".format(*gone.getsockname())
    door = Door(process, "nobody", address)
    assert door.connect().recv(1) == b""
    assert (door.stats["refused"], door.stats["connections_open"]) == (1, 0)


def test_data_sent_before_the_server_is_reached_arrive(process: ProxyProcess) -> None:
    """A client that speaks at once loses nothing."""
    received: queue.Queue[bytes] = queue.Queue()
    with serving(lambda connection: received.put(receive(connection, 5))) as server:
        for number in range(50):
            door = Door(process, f"early-{number}", server.address)
            client = door.connect()
            client.sendall(b"early")
            client.close()
            assert received.get(timeout=PATIENCE_S) == b"early"


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_latency_is_added_at_once_and_taken_away_at_once(door: Door, stream: str) -> None:
    """An existing connection becomes slow with the toxic, and what is held passes when it goes."""
    client = door.connect()
    exchange(client)
    door.poison("latency", latency=200, jitter=20, stream=stream)
    assert 0.180 <= exchange(client) < 5
    assert door.stats["streams"][stream]["delayed"] == 4
    door.process.want(
        "POST", f"/proxies/{door.name}/toxics/latency_{stream}", {"attributes": {"latency": 60_000}}
    )
    client.sendall(b"late")
    wait_until(lambda: door.stats["bytes_held"] == 4, timeout_s=PATIENCE_S, what="data are held")
    assert silent(client, 0.2)
    door.heal(f"latency_{stream}")
    assert receive(client, 4) == b"late"
    assert exchange(client) < 5


def test_latency_is_no_queue(door: Door) -> None:
    """Chunks travel side by side: twenty of them take the time of one."""
    client = door.connect()
    door.poison("latency", latency=300)
    started = time.monotonic()
    for _ in range(20):
        client.sendall(b"x" * 100)
    assert receive(client, 2000) == b"x" * 2000
    assert 0.3 <= time.monotonic() - started < 20 * 0.3


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_bandwidth_limits_the_rate(door: Door, stream: str) -> None:
    """100 KB at 200 KB/s take half a second at least."""
    client = door.connect()
    door.poison("bandwidth", rate=200, stream=stream)
    assert 0.49 <= exchange(client, b"x" * 100_000) < 10
    assert door.stats["streams"][stream]["bytes"] == 100_000


def test_a_cut_line_loses_nothing(door: Door) -> None:
    """With rate 0 nothing arrives; when the toxic goes everything does, in order."""
    client = door.connect()
    door.poison("bandwidth", rate=0, stream="upstream")
    content = random.Random(3).randbytes(100_000)
    client.sendall(content)
    wait_until(
        lambda: door.stats["bytes_held"] == 100_000, timeout_s=PATIENCE_S, what="all is held"
    )
    assert silent(client, 0.2)
    door.heal("bandwidth_upstream")
    assert receive(client, 100_000) == content


def test_what_is_held_is_bounded(process: ProxyProcess, server: Server) -> None:
    """A cut line takes no more than its bound; then the sender is not read any more."""
    door = Door(process, "bounded", server.address)
    memory_before = psutil.Process(process.process.pid).memory_info().rss
    door.poison("bandwidth", rate=0, stream="upstream")
    content = random.Random(4).randbytes(48 * MEGABYTE)
    client = door.connect()
    sender = threading.Thread(target=client.sendall, args=(content,))
    sender.start()
    wait_until(
        lambda: door.stats["bytes_held"] >= LINK_MAX_BYTES,
        timeout_s=PATIENCE_S,
        what="the buffer is full",
    )
    assert silent(client, 0.3)
    assert door.stats["bytes_held"] <= LINK_MAX_BYTES + 256 * 1024
    grown = psutil.Process(process.process.pid).memory_info().rss - memory_before
    assert grown < 24 * MEGABYTE
    assert sender.is_alive()
    door.heal("bandwidth_upstream")
    assert receive(client, len(content)) == content
    sender.join(PATIENCE_S)
    assert door.stats["bytes_held"] == 0


@pytest.mark.unit
def test_all_together_have_a_bound_too() -> None:
    """When the total is reached each direction may hold only the least."""
    memory = Memory(total_max_bytes=10 * MEGABYTE)
    assert memory.room(LINK_MAX_BYTES - 1)
    assert not memory.room(LINK_MAX_BYTES)
    memory.held = 10 * MEGABYTE
    assert memory.room(LINK_MIN_BYTES - 1)
    assert not memory.room(LINK_MIN_BYTES)


def test_a_client_that_does_not_read_stops_the_server(process: ProxyProcess) -> None:
    """Without toxics too: the proxy buffers no more than the sockets do."""
    sent = count()

    def pour(connection: socket.socket) -> None:
        while next(sent) < 4096:
            connection.sendall(b"x" * 65536)

    with serving(pour) as server:
        door = Door(process, "pour", server.address)
        before = psutil.Process(process.process.pid).memory_info().rss
        client = door.connect()
        client.recv(1)
        passed = -1
        while passed != (passed := door.stats["bytes_downstream"]):
            assert not threading.Event().wait(0.2)
        assert passed < 64 * MEGABYTE
        assert psutil.Process(process.process.pid).memory_info().rss - before < 24 * MEGABYTE
        reset(client)


def test_slices_arrive_small_and_in_order(process: ProxyProcess) -> None:
    """The server reads many small parts that together are what was sent."""
    parts: queue.Queue[bytes] = queue.Queue()

    def collect(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            parts.put(data)
        parts.put(b"")

    with serving(collect) as server:
        door = Door(process, "slices", server.address)
        attributes = {"average_size": 100, "size_variation": 50, "delay": 3000}
        door.poison("slicer", stream="upstream", **attributes)
        client = door.connect()
        content = random.Random(5).randbytes(10_000)
        client.sendall(content)
        client.close()
        found = list(iter(lambda: parts.get(timeout=PATIENCE_S), b""))
    assert b"".join(found) == content
    assert len(found) > 20
    assert sorted(map(len, found))[len(found) // 2] <= 150 * 5


def test_slow_close_delays_the_end(door: Door) -> None:
    """Data come at once, the end of the stream later."""
    client = door.connect()
    door.poison("slow_close", delay=400)
    exchange(client)
    client.shutdown(socket.SHUT_WR)
    started = time.monotonic()
    assert client.recv(1) == b""
    assert 0.4 <= time.monotonic() - started < 10


def test_timeout_drops_data_and_closes(door: Door) -> None:
    """Nothing comes back, and the connection is closed after its time, new ones too."""
    old = door.connect()
    exchange(old)
    door.poison("timeout", timeout=3000)
    new = door.connect()
    for client in (old, new):
        client.sendall(b"lost")
    started = time.monotonic()
    assert old.recv(1) == b""
    assert new.recv(1) == b""
    assert time.monotonic() - started < 10
    stats = door.stats
    assert (stats["closed"], stats["bytes_dropped"], stats["connections_open"]) == (2, 8, 0)
    assert stats["streams"]["downstream"]["dropped"] == 8


def test_a_black_hole_in_one_direction_is_half_open(process: ProxyProcess) -> None:
    """The server hears the client, the client hears nothing, not even that the server has gone."""
    heard: queue.Queue[bytes] = queue.Queue()

    def answer_and_go(connection: socket.socket) -> None:
        heard.put(connection.recv(100))
        connection.sendall(b"answer")

    with serving(answer_and_go) as server:
        door = Door(process, "half-open", server.address)
        door.poison("timeout", timeout=0, stream="downstream")
        client = door.connect()
        client.sendall(b"question")
        assert heard.get(timeout=PATIENCE_S) == b"question"
        wait_until(
            lambda: door.stats["bytes_dropped"] == 6, timeout_s=PATIENCE_S, what="it was dropped"
        )
        assert silent(client, 0.4)
        assert door.stats["connections_open"] == 1
        door.heal("timeout_downstream")
        assert client.recv(1) == b""
        assert door.stats["connections_open"] == 0


def test_a_black_hole_keeps_no_connection_that_both_sides_have_left(process: ProxyProcess) -> None:
    """Both ends are swallowed; the proxy itself does not keep what nobody has any more."""
    may_go = threading.Event()
    with serving(lambda _: assert_set(may_go)) as server:
        door = Door(process, "hole", server.address)
        for stream in ("upstream", "downstream"):
            door.poison("timeout", stream=stream)
        clients = [door.connect() for _ in range(3)]
        clients[0].sendall(b"lost")
        assert silent(clients[0], 0.2)
        reset(clients[0])
        clients[1].close()
        wait_until(
            lambda: door.stats["streams"]["upstream"]["dropped"] == 4,
            timeout_s=PATIENCE_S,
            what="it was dropped",
        )
        assert door.stats["connections_open"] == 3
        may_go.set()
        wait_until(
            lambda: door.stats["connections_open"] == 1, timeout_s=PATIENCE_S, what="two are closed"
        )
        assert silent(clients[2], 0.2)


def assert_set(event: threading.Event) -> None:
    """Wait until the event is set."""
    assert event.wait(PATIENCE_S)


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_reset_peer_is_an_rst(door: Door, stream: str) -> None:
    """An existing connection is reset when it is used; so is a new one, after `timeout`."""
    old = door.connect()
    exchange(old)
    door.poison("reset_peer", timeout=0, stream=stream)
    old.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        old.recv(1)
    change = {"attributes": {"timeout": 300}}
    door.process.want("PATCH", f"/proxies/{door.name}/toxics/reset_peer_{stream}", change)
    new = door.connect()
    started = time.monotonic()
    new.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        new.recv(1)
    assert time.monotonic() - started >= 0.3
    stats = door.stats
    assert (stats["resets"], stats["bytes_dropped"]) == (2, 2)
    door.heal(f"reset_peer_{stream}")
    exchange(door.connect())


def test_reset_peer_resets_the_server_too(process: ProxyProcess) -> None:
    """Both ends get an RST; on downstream the server has done its work by then."""
    seen: queue.Queue[str] = queue.Queue()

    def serve(connection: socket.socket) -> None:
        seen.put(connection.recv(100).decode())
        connection.sendall(b"done")
        try:
            connection.recv(1)
        except ConnectionResetError:
            seen.put("reset")

    with serving(serve) as server:
        door = Door(process, "both", server.address)
        door.poison("reset_peer", stream="downstream")
        client = door.connect()
        client.sendall(b"commit")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert [seen.get(timeout=PATIENCE_S) for _ in range(2)] == ["commit", "reset"]


@pytest.mark.parametrize("limit", [1, 1000, 99_999])
def test_limit_data_lets_exactly_its_bytes_pass(door: Door, limit: int) -> None:
    """The client gets so many bytes and then the end."""
    door.poison("limit_data", bytes=limit)
    client = door.connect()
    content = random.Random(6).randbytes(100_000)
    client.sendall(content)
    assert receive(client, 100_000) == content[:limit]
    stats = door.stats
    assert (stats["closed"], stats["bytes_downstream"]) == (1, limit)


def test_limit_data_counts_from_its_beginning(door: Door) -> None:
    """What passed before the toxic does not count."""
    client = door.connect()
    exchange(client, b"x" * 500)
    door.poison("limit_data", bytes=6)
    exchange(client)
    client.sendall(b"ping")
    assert receive(client, 4) == b"pi"


def test_toxicity_hits_a_share_of_connections_and_the_same_for_the_same_seed(
    server: Server,
) -> None:
    """Which connections of a hundred are hit is the seed's decision alone."""

    def hit(seed: int) -> list[int]:
        process = ProxyProcess("--seed", str(seed))
        door = Door(process, "kafka", server.address)
        door.poison("limit_data", bytes=0, toxicity=0.4)
        found = []
        for number in range(100):
            with door.connect() as client:
                client.sendall(b"ping")
                if receive(client, 4) == b"":
                    found.append(number)
        assert process.stop() == 0
        return found

    first = hit(1)
    assert 15 < len(first) < 65
    assert hit(1) == first
    assert hit(2) != first


def test_toxicity_can_be_changed_on_existing_connections(door: Door) -> None:
    """With 0 nobody is touched, with 1 everybody at once, and back."""
    clients = [door.connect() for _ in range(5)]
    for client in clients:
        exchange(client)
    door.poison("bandwidth", rate=0, toxicity=0)
    for client in clients:
        exchange(client)
    path = f"/proxies/{door.name}/toxics/bandwidth_downstream"
    door.process.want("POST", path, {"toxicity": 1})
    for client in clients:
        client.sendall(b"held")
    wait_until(lambda: door.stats["bytes_held"] == 20, timeout_s=PATIENCE_S, what="all are held")
    door.process.want("POST", path, {"toxicity": 0})
    for client in clients:
        assert receive(client, 4) == b"held"


MIXES = st.lists(
    st.one_of(
        st.tuples(
            st.just("latency"),
            st.builds(
                lambda ms, jitter: {"latency": ms, "jitter": jitter},
                st.integers(0, 40),
                st.integers(0, 40),
            ),
        ),
        st.tuples(
            st.just("bandwidth"), st.builds(lambda rate: {"rate": rate}, st.integers(200, 5000))
        ),
        st.tuples(
            st.just("slicer"),
            st.builds(
                lambda size, less, delay: {
                    "average_size": size,
                    "size_variation": max(0, size - less),
                    "delay": delay,
                },
                st.integers(50, 5000),
                st.integers(1, 5000),
                st.integers(0, 300),
            ),
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    mix=MIXES,
    streams=st.lists(st.sampled_from(["upstream", "downstream"]), min_size=4, max_size=4),
    length=st.integers(1, 60_000),
    removed=st.booleans(),
)
def test_any_mix_of_harmless_toxics_keeps_the_stream(
    process: ProxyProcess,
    server: Server,
    mix: list[tuple[str, dict[str, int]]],
    streams: list[str],
    length: int,
    removed: bool,
) -> None:
    """Bytes come back unchanged and in order, also when the toxics go in the middle."""
    door = Door(process, f"mix-{next(_numbers)}", server.address)
    for number, ((kind, attributes), stream) in enumerate(zip(mix, streams, strict=False)):
        door.poison(kind, name=str(number), stream=stream, **attributes)
    content = random.Random(length).randbytes(length)
    with door.connect() as client:
        client.sendall(content)
        if removed:
            for number in range(len(mix)):
                door.heal(str(number))
        client.shutdown(socket.SHUT_WR)
        assert receive(client, length + 1) == content
    assert door.stats["bytes_dropped"] == 0
