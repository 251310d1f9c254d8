"""What a lab tells its workers when the proxy stands before their servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.lab.addresses import Addresses, endpoint_of, proxied, upstreams
from chaos.lab.plan import Plan
from chaos.lab.process import LabError

pytestmark = pytest.mark.unit

DIRECT = Addresses(
    bootstrap="127.0.0.1:1",
    dsn="postgresql://symphony:p%40ss@127.0.0.1:2/symphony?application_name=x",
    gateway_url="http://127.0.0.1:3",
    web_url="http://127.0.0.1:4",
)


def test_workers_get_the_proxies_and_the_proxies_the_servers() -> None:
    """Login, database, options and the API's own address stay as they are."""
    listen = {"kafka": "127.0.0.1:11", "postgres": "127.0.0.1:12", "gateway": "127.0.0.1:13"}
    assert proxied(DIRECT, listen) == Addresses(
        bootstrap="127.0.0.1:11",
        dsn="postgresql://symphony:p%40ss@127.0.0.1:12/symphony?application_name=x",
        gateway_url="http://127.0.0.1:13",
        web_url="http://127.0.0.1:4",
    )
    assert upstreams(DIRECT, "127.0.0.1:5") == {
        "kafka": "127.0.0.1:5",
        "postgres": "127.0.0.1:2",
        "gateway": "127.0.0.1:3",
    }


@pytest.mark.parametrize(
    ("dsn", "endpoint"),
    [
        ("postgresql://u@db/x", "db:5432"),
        ("postgresql://u@db:6000/x", "db:6000"),
        ("postgresql://u@[::1]:6000/x", "[::1]:6000"),
    ],
)
def test_the_endpoint_of_a_database_url(dsn: str, endpoint: str) -> None:
    """Host and port, the port being PostgreSQL's when there is none."""
    assert endpoint_of(dsn) == endpoint


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql:///x",
        "postgresql://%2Fvar%2Frun/x",
        "postgresql://u@a:1,b:2/x",
        "postgresql://u@a/x?host=/var/run",
        "host=a dbname=x",
    ],
)
def test_a_database_without_one_tcp_address_is_refused(dsn: str) -> None:
    """The proxy could not stand before a socket file or several servers."""
    with pytest.raises(LabError, match="needs a database URL with one host"):
        endpoint_of(dsn)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"broker_kind": "external"}, "needs the embedded broker"),
        ({"postgres_kind": "external", "dsn": "postgresql:///x"}, "one host"),
    ],
)
def test_servers_that_clients_reach_around_the_proxy_are_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    """`--proxy` says at once what it cannot do; without it such servers are fine."""
    fields: dict[str, Any] = {"lab_dir": tmp_path, "cwd": tmp_path, "workers": {}, **changes}
    with pytest.raises(LabError, match=complaint):
        Plan(**fields, proxy=True).check_proxy()
    Plan(**fields).check_proxy()
