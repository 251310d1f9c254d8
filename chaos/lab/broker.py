"""One real Apache Kafka broker (KRaft, broker and controller in one process) on 127.0.0.1.

Guarantees: `start` returns when the broker leads all its partitions; the data survive `kill` and
`start`; the broker ends with the process that started it. Port and data stay over restarts.
Does not guarantee durability over a crash of the machine: Kafka leaves that to replicas.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from chaos.lab.jars import classpath
from chaos.lab.java import class_archive, find_java
from chaos.lab.process import (
    HOST,
    LabError,
    free_port,
    port_in_use,
    port_taken,
    spawn,
    tail,
    terminate,
)

if TYPE_CHECKING:
    from pathlib import Path

_JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:ReservedCodeCacheSize=64m",
    "-Xss512k",
)
_SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=CLIENT://{host}:{port},CONTROLLER://{host}:{controller_port}{proxied_listener}
advertised.listeners=CLIENT://{host}:{port}{proxied_advertised}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=1048576
log.segment.bytes=268435456
"""
_LOG4J = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""
_STOP_GRACE_S = 20.0
_PARTITION = re.compile(r"(?!__cluster_metadata-).+-\d+")


class Broker:
    """An embedded broker whose files live in `directory`; `port` is chosen free when None.

    With `proxy_port` it has a second listener, at `proxied_bootstrap`, which tells its clients to
    come by that port of a proxy: a client stays on the listener on which it has begun.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        jvm_options: Sequence[str] = (),
        proxy_port: int | None = None,
    ) -> None:
        self._directory = directory.absolute()
        self._jvm_options = tuple(jvm_options)
        self._port = port or 0
        self._proxy_port = proxy_port
        self._proxied_port = free_port() if proxy_port is not None else 0
        self._controller_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.log = self._directory / "broker.log"

    @property
    def bootstrap(self) -> str:
        """HOST:PORT for clients; fixed by the first `start` of this object."""
        if not self._port:
            self._port = free_port()
        return f"{HOST}:{self._port}"

    @property
    def proxied_bootstrap(self) -> str:
        """HOST:PORT that the proxy forwards to. Raises LabError when there is no such listener."""
        if not self._proxied_port:
            raise LabError("this broker has no listener for a proxy")
        return f"{HOST}:{self._proxied_port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, or None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def returncode(self) -> int | None:
        """Exit status of the last process (reaps it), None while it runs or before any start."""
        return self._process.poll() if self._process is not None else None

    def start(self, timeout_s: float = 60) -> None:
        """Start the broker and wait until it serves clients; nothing happens if it runs already.

        Raises LabError when the port is taken, Java or the jars are missing, or the broker ends
        or does not answer within `timeout_s`.
        """
        if self.pid is None:
            self.launch()
        self.wait_ready(timeout_s)

    def launch(self) -> None:
        """Start the process only; `wait_ready` tells when it serves."""
        if port_in_use(int(self.bootstrap.rpartition(":")[2])):
            raise port_taken(self._port, "the Kafka broker", "--broker-port")
        self.prepare()
        self._process = spawn(
            [*self._java(), "kafka.Kafka", str(self._directory / "server.properties")],
            log=self.log,
            cwd=self._directory,
        )

    def wait_ready(self, timeout_s: float) -> None:
        """Return when the broker `leads`; LabError when it ends or does not in time."""
        deadline = time.monotonic() + timeout_s
        while not self.leads(timeout_s=1.0):
            if self.returncode is not None:
                raise LabError(
                    f"the Kafka broker ended with status {self.returncode};"
                    f" the end of {self.log}:\n{tail(self.log)}"
                )
            if time.monotonic() > deadline:
                raise LabError(f"the Kafka broker was not ready within {timeout_s:g} s: {self.log}")
            time.sleep(0.05)

    def answers(self, timeout_s: float) -> bool:
        """True when a client gets this cluster's metadata within `timeout_s`."""
        return self._metadata(timeout_s) is not None

    def leads(self, timeout_s: float) -> bool:
        """True when it answers within `timeout_s`, knows its topics and leads every partition.

        A broker that was started again answers before that.
        """
        metadata = self._metadata(timeout_s)
        if metadata is None or (not metadata.topics and self._has_topics()):
            return False
        topics = metadata.topics.values()
        return all(part.leader >= 0 for topic in topics for part in topic.partitions.values())

    def _metadata(self, timeout_s: float) -> ClusterMetadata | None:
        """What it tells of its cluster; None when it does not answer or knows no broker yet."""
        if not port_in_use(self._port):
            return None
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            metadata = client.list_topics(timeout=timeout_s)
        except KafkaException:
            return None
        return metadata if metadata.brokers else None

    def _has_topics(self) -> bool:
        """Whether its files hold a partition, the metadata log not counted."""
        data = self._directory / "data"
        return any(_PARTITION.fullmatch(path.name) for path in data.glob("*-*"))

    def stop(self) -> None:
        """End the broker in an orderly way, or by SIGKILL after 20 s."""
        if self._process is not None:
            terminate(self._process, signal.SIGTERM, _STOP_GRACE_S)

    def kill(self) -> None:
        """SIGKILL the broker and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Freeze the broker (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen broker go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, sig: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise LabError("the Kafka broker does not run")
        self._process.send_signal(sig)

    def _java(self) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self._directory / 'log4j2.properties'}"
        options = list(self._jvm_options)
        if not options and class_archive().exists():
            options = [f"-XX:SharedArchiveFile={class_archive()}", "-Xlog:cds=off"]
        return [str(find_java()), *_JVM, *options, logging, "-cp", classpath()]

    def _write_configuration(self) -> None:
        if not self._controller_port:
            self._controller_port = free_port()
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "log4j2.properties").write_text(_LOG4J)
        listener = advertised = ""
        if self._proxy_port is not None:
            listener = f",PROXIED://{self.proxied_bootstrap}"
            advertised = f",PROXIED://{HOST}:{self._proxy_port}"
        (self._directory / "server.properties").write_text(
            _SERVER.format(
                host=HOST,
                port=self._port,
                controller_port=self._controller_port,
                data=self._directory / "data",
                proxied_listener=listener,
                proxied_advertised=advertised,
            )
        )

    def prepare(self) -> None:
        """Write the configuration and give empty storage its cluster id. Raises LabError."""
        self._write_configuration()
        if (self._directory / "data" / "meta.properties").exists():
            return
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").lstrip("-") or "lab"
        tool = [*self._java(), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        configuration = str(self._directory / "server.properties")
        done = subprocess.run(
            [*tool, "--cluster-id", cluster, "--config", configuration],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise LabError(f"Kafka's storage cannot be formatted: {done.stderr.strip()[-2000:]}")
