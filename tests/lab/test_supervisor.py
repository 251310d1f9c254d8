"""The supervisor on a real broker and a real database, with workers that only tell their health."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from confluent_kafka.admin import AdminClient

from chaos.lab.client import Lab
from chaos.lab.plan import LabFiles, Plan
from chaos.lab.process import HOST, LabError, free_port
from tests.faults.whole_lab import alive
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults]
FAKE = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]


def make_plan(directory: Path, **changes: Any) -> Plan:
    """A plan of one fake payment worker and one fake web worker below `directory`."""
    fields: dict[str, Any] = {
        "lab_dir": directory / ".lab",
        "cwd": Path.cwd(),
        "workers": {"web": 1, "payment": 1},
        "worker_command": FAKE,
        "stop_grace_s": 3.0,
        **changes,
    }
    return Plan(**fields)


@pytest.fixture(scope="module")
def lab(servers_dir: Path) -> Iterator[Lab]:
    """One lab for all tests that leave it as they found it."""
    directory = servers_dir / "lab"
    directory.mkdir()
    lab = Lab.up(make_plan(directory))
    yield lab
    lab.down()


def pids(lab: Lab) -> list[int]:
    """Every process of a lab, the supervisor first."""
    status = lab.status()
    rows = [row["pid"] for row in status["processes"] if row["pid"]]
    return [status["supervisor"]["pid"], *rows]


def gone(numbers: list[int]) -> bool:
    """Whether none of these processes runs; zombies of this test's own do not count."""
    return not any(alive(pid) for pid in numbers)


def environment_of(lab: Lab, name: str) -> dict[str, str]:
    """What the fake worker `name` was given."""
    rows = {row["name"]: row for row in lab.status(delivery=True)["processes"]}
    environment: dict[str, str] = rows[name]["delivery"]["environment"]
    return environment


def test_status_has_the_shape_tools_rely_on(lab: Lab) -> None:
    """When up returns, every process is ready and all addresses are told."""
    status = lab.status()
    assert status["state"] == "ready"
    assert status["broker"]["kind"] == status["postgres"]["kind"] == "embedded"
    assert status["web"]["url"].startswith(f"http://{HOST}:")
    assert set(status["gateway"]) == {"url", "ledger"}
    rows = status["processes"]
    assert [row["name"] for row in rows] == [
        "broker",
        "postgres",
        "gateway-sim",
        "web-1",
        "payment-1",
    ]
    assert {row["state"] for row in rows} == {"ready"}
    assert all({"name", "role", "pid", "state", "restarts"} <= set(row) for row in rows)


def test_topics_and_schema_exist_before_workers(lab: Lab) -> None:
    """The declared topics and the migrated, seeded schema are there."""
    status = lab.status()
    admin = AdminClient({"bootstrap.servers": status["broker"]["bootstrap"]})
    topics = admin.list_topics(timeout=10).topics
    assert {"order.created", "payment.requested", "payment.requested.dlt"} <= set(topics)
    assert len(topics["order.created"].partitions) == 4
    with closing(psycopg2.connect(status["postgres"]["dsn"])) as connection:
        cursor = connection.cursor()
        cursor.execute("select count(*) from catalog.product")
        assert cursor.fetchone() > (0,)


def test_a_worker_is_told_everything_it_needs(lab: Lab) -> None:
    """A worker gets role, names, ports and addresses, and its role's own database login."""
    status = lab.status()
    given = environment_of(lab, "payment-1")
    assert given["SYMPHONY_ROLE"] == "payment"
    assert given["SYMPHONY_WORKER_ID"] == "payment-1"
    assert given["SYMPHONY_LAB"] == "true"
    assert len(given["SYMPHONY_INCARNATION"]) == 8
    assert given["SYMPHONY_BROKER_BOOTSTRAP"] == status["broker"]["bootstrap"]
    assert given["SYMPHONY_GATEWAY_URL"] == status["gateway"]["url"]
    assert "//symphony_payment@" in given["SYMPHONY_POSTGRES_DSN"]
    web = environment_of(lab, "web-1")
    assert status["web"]["url"] == f"http://{HOST}:{web['SYMPHONY_WEB_PORT']}"


def test_a_killed_worker_comes_back_as_a_new_incarnation(lab: Lab) -> None:
    """After SIGKILL the supervisor starts the worker again under the same name."""
    before = environment_of(lab, "payment-1")["SYMPHONY_INCARNATION"]
    restarts = lab.process("payment-1")["restarts"]
    pid = lab.kill("payment-1")
    row = lab.wait_restarted("payment-1", pid, timeout_s=15)
    assert row["restarts"] == restarts + 1
    assert row["last_exit"] == "was ended by SIGKILL"
    assert environment_of(lab, "payment-1")["SYMPHONY_INCARNATION"] != before


def test_a_frozen_worker_is_left_alone(lab: Lab) -> None:
    """SIGSTOP shows as paused, nothing restarts it, and SIGCONT makes it ready again."""
    pid = lab.pause("payment-1")
    frozen = psutil.Process(pid)
    wait_until(
        lambda: frozen.status() == psutil.STATUS_STOPPED, timeout_s=5, what="the worker is frozen"
    )
    assert lab.process("payment-1")["state"] == "paused"
    assert lab.resume("payment-1") == pid
    assert lab.process("payment-1")["state"] == "ready"


def test_stopping_a_frozen_worker_wakes_it(lab: Lab) -> None:
    """Even a frozen worker ends in good order, stays ended, and can be started again."""
    pid = lab.pause("payment-1")
    assert lab.stop("payment-1")["state"] == "stopped"
    assert gone([pid])
    assert lab.process("payment-1")["pid"] is None
    assert lab.start("payment-1")["state"] == "ready"


def test_a_worker_deaf_to_sigterm_is_killed_after_the_grace(lab: Lab) -> None:
    """SIGKILL follows the stop grace; an environment given for one start holds for that only."""
    lab.restart("payment-1", environment={"FAKE_DEAF": "1"})
    assert lab.stop("payment-1", grace_s=0.5)["last_exit"] == "was ended by SIGKILL"
    lab.start("payment-1")
    assert lab.stop("payment-1", grace_s=5)["last_exit"] == "was ended by SIGTERM"
    lab.start("payment-1")


def test_a_lab_without_prometheus_tells_what_could_be_scraped(lab: Lab) -> None:
    """A Prometheus beside the lab, as compose starts one, finds every worker in the file."""
    assert lab.status()["observe"] is None

    def told() -> set[str]:
        groups = json.loads(lab.files.targets.read_text()) if lab.files.targets.is_file() else []
        return {one["labels"]["worker"] for one in groups}

    wait_until(lambda: told() >= {"web-1", "payment-1"}, timeout_s=30, what="targets are written")


def test_roles_scale_up_to_the_partition_count(lab: Lab) -> None:
    """Workers are added and removed by number; one that would get no partition is refused."""
    rows = lab.scale("payment", 3)
    assert [row["name"] for row in rows] == ["payment-1", "payment-2", "payment-3"]
    assert {row["state"] for row in rows} == {"ready"}
    with pytest.raises(LabError, match="the topics have 4 partitions"):
        lab.scale("payment", 5)
    states = {row["name"]: row["state"] for row in lab.scale("payment", 1)}
    assert states == {"payment-1": "ready", "payment-2": "stopped", "payment-3": "stopped"}


def test_a_restart_and_a_scaling_at_once_both_end(lab: Lab) -> None:
    """Each has its turn: a worker wanted again while it stopped kept the restart hanging."""
    lab.restart("payment-1", environment={"FAKE_DEAF": "1"})
    with ThreadPoolExecutor(1) as pool:
        restarted = pool.submit(lab.restart, "payment-1", environment={"SYMPHONY_MARK": "m"})
        wait_until(
            lambda: lab.process("payment-1")["state"] == "stopping", timeout_s=10, what="it stops"
        )
        assert [row["state"] for row in lab.scale("payment", 2)[:2]] == ["ready", "ready"]
        assert restarted.result(30)["state"] == "ready"
    assert environment_of(lab, "payment-1")["SYMPHONY_MARK"] == "m"
    lab.scale("payment", 1)


def test_servers_keep_their_address_over_restarts(lab: Lab) -> None:
    """Broker and database come back at the same address after kill and after stop."""
    before = lab.status()
    pid = lab.kill("broker")
    lab.wait_restarted("broker", pid, timeout_s=40)
    lab.restart("postgres", mode="immediate")
    lab.restart("gateway-sim")
    after = lab.status()
    for key in ("broker", "postgres", "gateway", "web"):
        assert after[key] == before[key]
    assert {row["state"] for row in after["processes"] if row["pid"]} == {"ready"}


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda lab: lab.kill("nobody-1"), r"there is no 'nobody-1' here; there are: broker"),
        (lambda lab: lab.kill("web-1", "NOSUCH"), "unknown signal 'NOSUCH'"),
        (lambda lab: lab.call("conquer"), "no call 'conquer'"),
        (lambda lab: lab.scale("cook", 1), "unknown role 'cook'; known roles: web"),
        (lambda lab: lab.start("broker", environment={"A": "1"}), "is no worker"),
    ],
)
def test_impossible_requests_are_explained(lab: Lab, call: Any, complaint: str) -> None:
    """A wrong name, signal or role is refused with what would be right."""
    with pytest.raises(LabError, match=complaint):
        call(lab)


def test_a_second_lab_in_the_same_directory_is_refused(lab: Lab) -> None:
    """`up` where a lab runs changes nothing and says how to end the running one."""
    before = pids(lab)
    with pytest.raises(LabError, match=r"already runs in .*symphony down"):
        Lab.up(make_plan(lab.files.root.parent))
    assert pids(lab) == before


def test_two_labs_run_side_by_side(lab: Lab, public_dir: Path) -> None:
    """A lab in another directory has its own servers, and its end leaves the first alone."""
    other = Lab.up(make_plan(public_dir))
    first, second = lab.status(), other.status()
    for key in ("broker", "postgres", "gateway", "web"):
        assert first[key] != second[key]
    left = pids(other)
    assert other.down()
    assert gone(left)
    assert lab.status()["state"] == "ready"


def test_external_servers_are_used_not_started(lab: Lab, public_dir: Path) -> None:
    """With external broker and database only gateway and workers are processes of the lab."""
    status = lab.status()
    external = Lab.up(
        make_plan(
            public_dir,
            broker_kind="external",
            bootstrap=status["broker"]["bootstrap"],
            postgres_kind="external",
            dsn=status["postgres"]["dsn"],
            namespace="guest",
        )
    )
    try:
        shown = external.status()
        assert shown["broker"] == {**status["broker"], "kind": "external"}
        assert [row["name"] for row in shown["processes"]] == ["gateway-sim", "web-1", "payment-1"]
        given = environment_of(external, "payment-1")
        assert given["SYMPHONY_POSTGRES_DSN"] == status["postgres"]["dsn"]
    finally:
        external.down()


def test_nothing_survives_a_killed_supervisor(public_dir: Path) -> None:
    """SIGKILL of the supervisor ends every process, and the next up starts on the same data."""
    lab = Lab.up(make_plan(public_dir))
    numbers = pids(lab)
    assert len(numbers) == 6
    os.kill(numbers[0], signal.SIGKILL)
    wait_until(lambda: gone(numbers), timeout_s=10, what="no process of the lab is left")
    assert not lab.running()
    again = Lab.up(make_plan(public_dir))
    assert again.status()["state"] == "ready"
    left = pids(again)
    again.down()
    assert gone(left)


def test_a_lab_that_is_not_detached_dies_with_its_starter(public_dir: Path) -> None:
    """Without detach the whole lab ends with the process that started it."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from chaos.lab.client import Lab\n"
        "from chaos.lab.plan import Plan\n"
        "Lab.up(Plan.load(Path(sys.argv[1])), detach=False)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    plan = make_plan(public_dir, workers={"payment": 1})
    plan.save()
    with psutil.Popen(
        [sys.executable, "-c", code, str(plan.lab_dir)], stdout=-1, text=True
    ) as starter:
        assert starter.stdout.readline() == "up\n"
        numbers = pids(Lab(plan.lab_dir))
        starter.kill()
    wait_until(lambda: gone(numbers), timeout_s=10, what="no process of the lab is left")


def test_up_fails_with_the_last_words_of_a_broken_worker(public_dir: Path) -> None:
    """A worker that ends before it was ever ready fails `up`, with the end of its log."""
    plan = make_plan(public_dir, environment={"FAKE_EXIT": "1"})
    with pytest.raises(LabError) as caught:
        Lab.up(plan)
    message = str(caught.value)
    assert "exited with 1 before it was ready" in message
    assert "fake worker" in message
    assert not Lab(plan.lab_dir).running()


def test_a_taken_port_fails_up_at_once(public_dir: Path) -> None:
    """A port that somebody else holds is named, with the option that changes it."""
    with socket.create_server((HOST, free_port())) as holder:
        plan = make_plan(public_dir, broker_port=holder.getsockname()[1])
        with pytest.raises(LabError, match=r"port \d+ .* is already taken .*--broker-port"):
            Lab.up(plan)


def test_up_is_refused_beyond_the_disk_cap(public_dir: Path) -> None:
    """A lab whose files exceed the cap is not started; the message says how to go on."""
    plan = make_plan(public_dir, disk_max_mb=8)
    plan.lab_dir.mkdir()
    (plan.lab_dir / "old").write_bytes(os.urandom(9 * 2**20))
    with pytest.raises(LabError, match=r"more than lab_disk_max_mb = 8: .*--purge"):
        Lab.up(plan)
    plan.files.purge()
    assert not plan.lab_dir.exists()


def test_a_full_lab_stops_accepting_until_there_is_room(public_dir: Path) -> None:
    """Beyond the cap role web is stopped and the status says why; with room it comes back."""
    lab = Lab.up(make_plan(public_dir, disk_max_mb=400))
    try:
        filler = lab.files.root / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 400 * 2**20)
        wait_until(lambda: lab.status()["problems"], timeout_s=20, what="the cap is noticed")
        assert "more than lab_disk_max_mb = 400: no orders" in lab.status()["problems"][0]
        wait_until(
            lambda: lab.process("web-1")["state"] == "stopped", timeout_s=10, what="web stops"
        )
        assert lab.process("payment-1")["state"] == "ready"
        filler.unlink()
        wait_until(lambda: lab.process("web-1")["state"] == "ready", timeout_s=20, what="web runs")
        assert lab.status()["problems"] == []
    finally:
        lab.down()


def test_deep_directories_have_a_working_socket(tmp_path: Path) -> None:
    """A lab may lie deeper than a socket path may be long."""
    deep = tmp_path.joinpath(*["directory-with-a-long-name"] * 6)
    deep.mkdir(parents=True)
    files = LabFiles(deep)
    with files.socket_address() as address, socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        files.connect(timeout_s=1).close()
    assert files.socket.exists()


def test_down_without_a_lab_is_harmless(tmp_path: Path) -> None:
    """`down` where nothing runs does nothing and says so."""
    assert Lab(tmp_path / ".lab").down() is False
