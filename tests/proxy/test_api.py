"""The proxy's HTTP API is Toxiproxy's: paths, bodies, status codes, errors; and our leases."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from chaos.lab.process import free_port
from tests.proxy.proxy_kit import HOST, PATIENCE_S, Door, ProxyProcess, exchange, write_config
from tests.proxy.proxy_kit import Server as EchoServer
from tests.waiting import wait_until

NOWHERE = f"{HOST}:9"


def test_the_version_is_that_of_a_toxiproxy_2(process: ProxyProcess) -> None:
    """Clients look at the major version."""
    assert process.want("GET", "/version")["version"].startswith("2.")


def test_a_proxy_from_creation_to_deletion(process: ProxyProcess, server: EchoServer) -> None:
    """201 with the real port, shown alone and in the list, 204, then 404."""
    made = process.call("POST", "/proxies", {"name": "a", "upstream": server.address})
    assert made.status == 201
    stats = made.body.pop("stats")
    assert stats["connections"] == stats["bytes_upstream"] == 0
    listen = made.body.pop("listen")
    assert int(listen.removeprefix(f"{HOST}:")) > 0
    assert made.body == {"name": "a", "upstream": server.address, "enabled": True, "toxics": []}
    assert process.want("GET", "/proxies/a")["listen"] == listen
    assert process.want("GET", "/proxies")["a"]["listen"] == listen
    assert process.call("DELETE", "/proxies/a") == (204, None)
    assert process.call("GET", "/proxies/a").status == 404
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, int(listen.rpartition(":")[2])))


def test_a_toxic_from_creation_to_deletion(process: ProxyProcess, door: Door) -> None:
    """Names and streams have defaults, attributes are merged, and everything is shown."""
    path = f"/proxies/{door.name}/toxics"
    made = process.call("POST", path, {"type": "latency", "attributes": {"latency": 7}})
    expected = {
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1.0,
        "attributes": {"latency": 7, "jitter": 0},
    }
    assert made == (200, expected)
    up = process.want("POST", path, {"type": "slow_close", "stream": "UPSTREAM", "name": "x"})
    assert up["stream"] == "upstream"
    assert process.want("GET", f"{path}/latency_downstream") == expected
    assert [one["name"] for one in process.want("GET", path)] == ["x", "latency_downstream"]
    assert process.want("GET", f"/proxies/{door.name}")["toxics"] == process.want("GET", path)
    for method, jitter in (("POST", 1), ("PATCH", 2)):
        change = {"attributes": {"jitter": jitter}, "toxicity": 0.5}
        changed = process.want(method, f"{path}/latency_downstream", change)
        assert changed["attributes"] == {"latency": 7, "jitter": jitter}
        assert changed["toxicity"] == 0.5
    assert process.call("DELETE", f"{path}/x") == (204, None)
    assert [one["name"] for one in process.want("GET", path)] == ["latency_downstream"]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_proxy_goes_down_and_up(process: ProxyProcess, door: Door, method: str) -> None:
    """Disabled: connections are closed, new ones refused; enabled: the same port again."""
    client = door.connect()
    exchange(client)
    down = process.want(method, f"/proxies/{door.name}", {"enabled": False})
    assert (down["enabled"], down["listen"]) == (False, door.listen)
    assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        door.connect()
    assert door.stats["closed"] == 1
    up = process.want(method, f"/proxies/{door.name}", {"enabled": True})
    assert (up["enabled"], up["listen"]) == (True, door.listen)
    exchange(door.connect())


def test_an_upstream_can_be_exchanged(process: ProxyProcess, door: Door) -> None:
    """Another address closes connections; new ones go there."""
    client = door.connect()
    exchange(client)

    def shout(connection: socket.socket) -> None:
        while data := connection.recv(100):
            connection.sendall(data.upper())

    loud = EchoServer(shout)
    door.change(upstream=loud.address)
    assert client.recv(1) == b""
    client = door.connect()
    client.sendall(b"ping")
    assert client.recv(100) == b"PING"
    loud.close()


def test_a_listening_address_can_be_exchanged(door: Door, process: ProxyProcess) -> None:
    """A changed port serves, the old one does not; a taken one changes nothing."""
    with socket.create_server((HOST, 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        answer = process.call("POST", f"/proxies/{door.name}", {"listen": address})
    assert answer == (500, {"error": f"listen tcp {address}: {TAKEN}", "status": 500})
    exchange(door.connect())
    old = door.listen
    door.listen = door.change(listen=address)["listen"]
    assert door.listen == address
    exchange(door.connect())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, int(old.rpartition(":")[2])))


TAKEN = "Address already in use"


def test_populate_creates_replaces_and_leaves_alone(
    process: ProxyProcess, server: EchoServer
) -> None:
    """The same list again changes nothing, toxics and connections included."""
    rows = [
        {"name": "p1", "listen": "localhost:0", "upstream": server.address},
        {"name": "p2", "upstream": NOWHERE, "enabled": False},
    ]
    first = process.call("POST", "/populate", rows)
    assert first.status == 201
    assert [row["enabled"] for row in first.body["proxies"]] == [True, False]
    process.poison("p1", "latency")
    rows[0]["listen"] = first.body["proxies"][0]["listen"]
    again = process.want("POST", "/populate", rows)["proxies"]
    assert [row["listen"] for row in again] == [row["listen"] for row in first.body["proxies"]]
    assert [toxic["type"] for toxic in again[0]["toxics"]] == ["latency"]
    rows[0]["upstream"] = NOWHERE
    moved = process.want("POST", "/populate", rows)["proxies"][0]
    assert (moved["upstream"], moved["toxics"]) == (NOWHERE, [])


def test_populate_tells_what_was_done_before_an_error(
    process: ProxyProcess, server: EchoServer
) -> None:
    """Input is checked before anything is done; a taken port leaves the proxies before it."""
    rows = [{"name": "q1", "upstream": server.address}, {"name": "q2"}]
    answer = process.call("POST", "/populate", rows)
    text = "missing required field: upstream at proxy 2"
    assert answer == (400, {"error": text, "status": 400})
    assert process.call("GET", "/proxies/q1").status == 404
    with socket.create_server((HOST, 0)) as taken:
        listen = "{}:{}".format(*taken.getsockname())
        rows[1] = {"name": "q2", "upstream": server.address, "listen": listen}
        answer = process.call("POST", "/populate", rows)
    assert (answer.status, answer.body["status"]) == (500, 500)
    assert TAKEN in answer.body["error"]
    assert [row["name"] for row in answer.body["proxies"]] == ["q1"]


def test_reset_enables_all_and_ends_toxics_and_leases(server: EchoServer) -> None:
    """After /reset every proxy is as if nobody had touched it."""
    process = ProxyProcess()
    door = Door(process, "r", server.address)
    door.poison("timeout")
    door.change(upstream=NOWHERE, enabled=False, lease_ms=60_000)
    assert process.call("POST", "/reset") == (204, None)
    shown = process.want("GET", "/proxies/r")
    assert (shown["enabled"], shown["toxics"], shown["upstream"]) == (True, [], server.address)
    assert "lease_ms_left" not in shown
    exchange(door.connect())
    assert process.stop() == 0


BAD_TOXICS: list[tuple[Any, int, str]] = [
    ({"type": "gremlin"}, 400, "invalid toxic type: 'gremlin', there are: bandwidth, latency"),
    ({}, 400, "invalid toxic type: ''"),
    (
        {"type": "latency", "stream": "sideways"},
        400,
        "stream was invalid, can be either upstream or downstream",
    ),
    ({"type": "latency", "attributes": {"latency": -1}}, 400, ">= 0 - at `$.latency`"),
    ({"type": "latency", "attributes": {"latency": 1.5}}, 400, "at `$.latency`"),
    ({"type": "latency", "attributes": {"latency": "1"}}, 400, "at `$.latency`"),
    ({"type": "latency", "attributes": {"latencey": 1}}, 400, "unknown field `latencey`"),
    ({"type": "latency", "attributes": 5}, 400, "bad request body: "),
    ({"type": "latency", "toxicity": 1.1}, 400, "at `$.toxicity`"),
    ({"type": "latency", "toxicity": -0.1}, 400, "at `$.toxicity`"),
    ({"type": "latency", "lease_ms": 0}, 400, "at `$.lease_ms`"),
    ({"type": "slicer"}, 400, "average_size must be at least 1"),
    (
        {"type": "slicer", "attributes": {"average_size": 5, "size_variation": 5}},
        400,
        "size_variation must be below average_size",
    ),
    ({"type": "latency", "name": "there"}, 409, "toxic already exists"),
    (b"{", 400, "bad request body: "),
    (b"[]", 400, "bad request body: "),
]


@pytest.mark.parametrize(("body", "status", "text"), BAD_TOXICS)
def test_a_bad_toxic_is_refused(
    process: ProxyProcess, door: Door, body: Any, status: int, text: str
) -> None:
    """An error says what is wrong, and nothing changes."""
    door.poison("slow_close", name="there")
    answer = process.call("POST", f"/proxies/{door.name}/toxics", body)
    assert (answer.status, answer.body["status"]) == (status, status)
    assert text in answer.body["error"]
    assert len(process.want("GET", f"/proxies/{door.name}/toxics")) == 1


BAD_PROXIES: list[tuple[Any, int, str]] = [
    ({"upstream": NOWHERE}, 400, "missing required field: name"),
    ({"name": "n"}, 400, "missing required field: upstream"),
    ({"name": "n", "upstream": "nowhere"}, 400, "'nowhere' is no address: HOST:PORT is expected"),
    ({"name": "n", "upstream": "a:70000"}, 400, "'a:70000' is no address"),
    ({"name": "n", "upstream": NOWHERE, "listen": "x"}, 400, "'x' is no address"),
    ({"name": "n", "upstream": NOWHERE, "listen": "256.0.0.1:0"}, 500, "listen tcp 256.0.0.1:0: "),
    ({"name": "n", "upstream": NOWHERE, "enabled": "yes"}, 400, "at `$.enabled`"),
    ({"name": 5, "upstream": NOWHERE}, 400, "at `$.name`"),
    (b"", 400, "bad request body: "),
]


@pytest.mark.parametrize(("body", "status", "text"), BAD_PROXIES)
def test_a_bad_proxy_is_refused(process: ProxyProcess, body: Any, status: int, text: str) -> None:
    """An error says what is wrong, and no proxy is made."""
    answer = process.call("POST", "/proxies", body)
    assert (answer.status, answer.body["status"]) == (status, status)
    assert text in answer.body["error"]
    assert process.call("GET", "/proxies/n").status == 404


def test_taken_names_and_ports_are_refused(process: ProxyProcess, door: Door) -> None:
    """409 for a name, 500 for a port, as Toxiproxy answers."""
    again = {"name": door.name, "upstream": NOWHERE}
    assert process.call("POST", "/proxies", again) == (
        409,
        {"error": "proxy already exists", "status": 409},
    )
    other = {"name": "other", "upstream": NOWHERE, "listen": door.listen}
    answer = process.call("POST", "/proxies", other)
    assert answer == (500, {"error": f"listen tcp {door.listen}: {TAKEN}", "status": 500})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/toxics"),
        ("POST", "/toxics"),
        ("GET", "/toxics/t"),
        ("POST", "/toxics/t"),
        ("DELETE", "/toxics/t"),
    ],
)
def test_unknown_names_are_not_found(
    process: ProxyProcess, door: Door, method: str, path: str
) -> None:
    """Every path with a name answers 404 for one that does not exist."""
    body = b"{}" if method in ("POST", "PATCH") else None
    missing = process.call(method, f"/proxies/nobody{path}", body)
    assert missing == (404, {"error": "proxy not found", "status": 404})
    if path == "/toxics/t":
        missing = process.call(method, f"/proxies/{door.name}{path}", body)
        assert missing == (404, {"error": "toxic not found", "status": 404})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("DELETE", "/proxies", 405), ("GET", "/reset", 405)],
)
def test_unknown_paths_are_json_errors(
    process: ProxyProcess, method: str, path: str, status: int
) -> None:
    """Paths and methods that do not exist are told in the same form."""
    answer = process.call(method, path)
    assert (answer.status, answer.body["status"]) == (status, status)
    assert answer.body["error"]


def test_a_browser_is_refused(process: ProxyProcess) -> None:
    """A web page must not order faults."""
    answer = process.call("POST", "/reset", b"", **{"User-Agent": "Mozilla/5.0"})
    assert answer == (403, {"error": "User agent not allowed", "status": 403})


def test_a_leased_toxic_goes_by_itself(process: ProxyProcess, door: Door) -> None:
    """Without anybody's doing the toxic is gone after its lease, and its effect with it."""
    shown = door.poison("bandwidth", rate=0, lease_ms=3000)
    assert 0 < shown["lease_ms_left"] <= 3000
    client = door.connect()
    assert exchange(client) > 0.1
    assert process.want("GET", f"/proxies/{door.name}/toxics") == []


def test_a_leased_change_of_a_toxic_is_undone(process: ProxyProcess, door: Door) -> None:
    """Attributes and toxicity are again what they were; the toxic itself stays."""
    before = door.poison("latency", latency=1, jitter=1)
    path = f"/proxies/{door.name}/toxics/latency_downstream"
    change = {"attributes": {"latency": 900}, "toxicity": 0.5, "lease_ms": 3000}
    assert process.want("POST", path, change)["attributes"] == {"latency": 900, "jitter": 1}
    process.want("POST", path, {"attributes": {"jitter": 3}})
    assert process.want("GET", path)["attributes"] == {"latency": 900, "jitter": 3}
    after = {**before, "attributes": {"latency": 1, "jitter": 3}}
    wait_until(
        lambda: process.want("GET", path) == after, timeout_s=PATIENCE_S, what="the change is gone"
    )


def test_a_leased_down_ends_by_itself(process: ProxyProcess, door: Door) -> None:
    """The proxy is up again after its lease, at the same port."""
    shown = door.change(enabled=False, lease_ms=3000)
    assert 0 < shown["lease_ms_left"] <= 3000
    with pytest.raises(ConnectionRefusedError):
        door.connect()
    wait_until(
        lambda: process.want("GET", f"/proxies/{door.name}")["enabled"],
        timeout_s=PATIENCE_S,
        what="the proxy is up",
    )
    exchange(door.connect())


def test_a_lease_is_renewed_and_survives_other_changes(process: ProxyProcess, door: Door) -> None:
    """A new lease counts anew; what is set without a lease holds afterwards."""
    door.change(enabled=False, lease_ms=60_000)
    assert 60_000 < door.change(lease_ms=120_000)["lease_ms_left"] <= 120_000
    door.change(upstream=NOWHERE)
    assert door.change(lease_ms=1)["enabled"] is False
    shown = wait_until(
        lambda: (one := process.want("GET", f"/proxies/{door.name}"))["enabled"] and one,
        timeout_s=PATIENCE_S,
        what="the lease has ended",
    )
    assert shown["upstream"] == NOWHERE
    assert "lease_ms_left" not in shown


def test_a_lease_ends_although_somebody_has_the_port(process: ProxyProcess, door: Door) -> None:
    """The proxy comes back as soon as it can have its port again."""
    door.change(enabled=False, lease_ms=3000)
    with socket.create_server((HOST, int(door.listen.rpartition(":")[2]))):
        wait_until(
            lambda: any(line["event"] == "lease cannot end yet" for line in process.lines),
            timeout_s=PATIENCE_S,
            what="the port is wanted back",
        )
        assert process.want("GET", f"/proxies/{door.name}")["enabled"] is False
    wait_until(
        lambda: process.want("GET", f"/proxies/{door.name}")["enabled"],
        timeout_s=PATIENCE_S,
        what="the proxy is up",
    )


def test_the_configuration_file_is_the_start(tmp_path: Path, server: EchoServer) -> None:
    """Proxies of the file are there; SIGTERM ends the process with its connections, status 0."""
    rows = [{"name": "filed", "listen": f"{HOST}:0", "upstream": server.address}]
    process = ProxyProcess("--config", str(write_config(tmp_path, rows)), "--seed", "77")
    assert process.lines[-1]["seed"] == 77
    address = process.want("GET", "/proxies/filed")["listen"]
    client = socket.create_connection((HOST, int(address.rpartition(":")[2])), timeout=PATIENCE_S)
    exchange(client)
    process.poison("filed", "bandwidth", rate=0)
    client.sendall(b"held")
    assert process.stop() == 0
    assert client.recv(1) == b""


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("{", "proxy: bad request body: "),
        ([{"name": "x"}], "proxy: missing required field: upstream at proxy 1"),
        ([{"name": "x", "listen": "256.0.0.1:1", "upstream": "b:1"}], "proxy: listen tcp 256.0.0"),
    ],
)
def test_a_wrong_configuration_ends_with_a_reason(
    tmp_path: Path, rows: Any, complaint: str
) -> None:
    """Exit code 2 and one line."""
    file = str(write_config(tmp_path, rows))
    done = subprocess.run(
        [sys.executable, "-m", "chaos.proxy", "--port", "0", "--config", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(complaint)
    assert len(done.stderr.splitlines()) == 1


def test_an_interrupt_is_a_clean_end() -> None:
    """Ctrl-C ends the proxy like SIGTERM."""
    assert ProxyProcess().stop(signal.SIGINT) == 0


def test_a_lease_ends_although_the_log_cannot_be_written() -> None:
    """A full disk below the log keeps no fault alive."""
    port = free_port()
    with Path("/dev/full").open("w") as full:
        child = subprocess.Popen(
            [sys.executable, "-m", "chaos.proxy", "--port", str(port)], stdout=full
        )
    url = f"http://{HOST}:{port}/proxies"
    wait_until(lambda: not free(port), timeout_s=PATIENCE_S, what="the proxy listens")
    try:
        post(url, {"name": "quiet", "upstream": NOWHERE})
        assert post(f"{url}/quiet/toxics", {"type": "timeout", "lease_ms": 100})["lease_ms_left"]
        wait_until(
            lambda: get(f"{url}/quiet/toxics") == [], timeout_s=PATIENCE_S, what="it has ended"
        )
    finally:
        child.kill()
        child.wait()


def free(port: int) -> bool:
    """Whether nobody listens."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def get(url: str) -> Any:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())


def post(url: str, body: Any) -> Any:
    """The body of an answer to a JSON body."""
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())
