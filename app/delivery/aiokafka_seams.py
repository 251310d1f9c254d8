"""The only file that touches private parts of aiokafka (written for 0.14.0, pinned).

aiokafka offers no seam for these, so an instance's attribute is set or wrapped, or a class of its
fetcher replaced. Each function says what it replaces and which test goes red without it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from time import monotonic
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import ConsumerRecord

from app.delivery import record_batch
from app.observability.logging import get_log

log = get_log(__name__)

METADATA_TRIES_MAX = 50
METADATA_RETRY_S = 0.1
_send_stock = AIOKafkaConnection.send


def fit_uvloop() -> None:
    """Replace AIOKafkaConnection.send by the function below, once per process.

    On a connection that has just been closed uvloop raises RuntimeError, where aiokafka expects an
    OSError: its fetcher, sender or coordinator ends, and the worker stays alive and reads nothing.
    Red without it: tests/delivery/test_closed_connection.py.
    """
    AIOKafkaConnection.send = _send


def _send(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    """Send as the stock method does; what has been closed is a connection that broke."""
    try:
        return _send_stock(self, request, expect_response)
    except RuntimeError as error:
        if isinstance(error, KafkaError):
            raise
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"{self.host}:{self.port} broke off: {error}") from error


def ended_routine(consumer: Any) -> str:
    """What of aiokafka ended by itself, and of what; empty while its fetcher and its coordinator
    work. Neither tells anybody: the one stops reading, the other stops joining the group."""
    routines = {
        "fetcher": consumer._fetcher._fetch_task,
        "coordinator": consumer._coordinator._coordination_task,
    }
    for name, task in routines.items():
        if task.done():
            return f"{name} of {None if task.cancelled() else task.exception()!r}"
    return ""


async def know_brokers(consumer: Any) -> None:
    """Return when the client knows a broker; call it before anything is subscribed.

    A broker that was suspended past its own session names no broker for a moment. aiokafka takes
    such an answer for a bootstrap; then its coordinator routine ends with an AssertionError, and
    the worker never joins its group. Red without it: tests/delivery/test_know_brokers.py.
    """
    client = consumer._client
    while not client.cluster.brokers():
        log.warning("worker.waiting", waiting_for="a broker in the cluster's metadata")
        await client.force_metadata_update()
        await asyncio.sleep(METADATA_RETRY_S)


def set_fetch_wait(consumer: Any, *, max_wait_ms: int, prefetch_backoff_s: float) -> None:
    """Replaces Faust's fixed fetch_max_wait_ms=1500 and aiokafka's 100 ms prefetch back-off.

    Offsets and metadata are asked for on the connection on which a fetch waits, so that wait is
    what a rebalance can lose. Measured by bench/orders.py.
    """
    consumer._fetcher._fetch_max_wait_ms = max_wait_ms
    consumer._fetcher._prefetch_backoff = prefetch_backoff_s


def pace_fetches(consumer: Any, pace_s: Callable[[], float]) -> None:
    """Wrap Fetcher._get_actions_per_node: no fetch request sooner than `pace_s()` after the last.

    aiokafka asks again as soon as its buffer is empty; the pace makes fewer, fuller polls of that.
    The broker's own way to it (fetch.min.bytes) costs it about 1 ms for each request that has to
    wait on 24 partitions (docs/adr/0008), and delays a lone record. Red without it:
    tests/delivery/test_paced_fetches.py.
    """
    actions = consumer._fetcher._get_actions_per_node
    sent_at = -math.inf

    def paced(assignment: Any) -> Any:
        nonlocal sent_at
        requests, resets, timeout, invalid, resumed = actions(assignment)
        if requests:
            early_s = sent_at + pace_s() - monotonic()
            if early_s > 0:
                requests, timeout = [], min(timeout, early_s)
            else:
                sent_at = monotonic()
        return requests, resets, timeout, invalid, resumed

    consumer._fetcher._get_actions_per_node = paced


def note_heartbeats(consumer: Any, note: Callable[[float], None]) -> None:
    """Wrap GroupCoordinator._do_heartbeat: `note(sent_at)` (monotonic s) for each accepted one.

    aiokafka tells nobody when the group last confirmed this member, and the lease fence (W5)
    lives on that. Red without it: tests/faults (SIGSTOP past the session).
    """
    coordinator = consumer._coordinator
    heartbeat = coordinator._do_heartbeat

    async def noted() -> bool:
        sent_at = monotonic()
        accepted: bool = await heartbeat()
        if accepted:
            note(sent_at)
        return accepted

    coordinator._do_heartbeat = noted


def complete_metadata_before_assigning(
    consumer: Any, topics: Callable[[], Iterable[str]], give_up: Callable[[str], None]
) -> None:
    """Wrap GroupCoordinator._perform_assignment: every subscribed topic must be known first.

    A broker that has just started answers with brokers but without topics; aiokafka then forgets
    ours (cluster.py:274), Faust's assignor ignores "missing" topics, and the whole group sits with
    an empty assignment. `give_up(why)` is called when the topics stay unknown.
    Red without it: tests/faults (broker kill -9 and restart).
    """
    coordinator = consumer._coordinator
    perform = coordinator._perform_assignment

    async def with_metadata(response: Any) -> Any:
        client = consumer._client
        for _ in range(METADATA_TRIES_MAX):
            missing = [t for t in topics() if not client.cluster.partitions_for_topic(t)]
            if not missing:
                return await perform(response)
            await client.force_metadata_update()
            await asyncio.sleep(METADATA_RETRY_S)
        give_up(f"the broker does not know the subscribed topics {missing}")
        return await perform(response)

    coordinator._perform_assignment = with_metadata


def before_each_produce(producer: Any, before: Callable[[], Awaitable[None]]) -> None:
    """Wrap the producer client's `send`: `before()` runs ahead of every produce request.

    aiokafka retries inside its sender, long after the step asked to send; a process that was
    suspended in between must not write over its successor (W5).
    Red without it: tests/faults (SIGSTOP past the session).
    """
    client = producer.client
    send = client.send

    async def fenced(node_id: Any, request: Any, **kwargs: Any) -> Any:
        if type(request).__name__.startswith("ProduceRequest"):
            await before()
        return await send(node_id, request, **kwargs)

    client.send = fenced


def take_turns(consumer: Any, served: Iterable[Any]) -> None:
    """Replaces the order in which aiokafka serves its buffered partitions: served ones go last.

    A poll takes all it may from the first buffered partition, so a backlog of 1 MiB is served
    alone for some 20 polls while the others stand still, for half a minute on a busy machine.
    The watchdog then ends a worker that works. Red without it: tests/unit/test_fetch_turns.py.
    """
    buffered = consumer._fetcher._records
    for tp in served:
        if tp in buffered:
            buffered[tp] = buffered.pop(tp)


async def heartbeat_now(consumer: Any) -> None:
    """Send a heartbeat at once, so that a new assignment starts with a fresh lease."""
    await consumer._coordinator._do_heartbeat()


def coordinator_known(consumer: Any) -> bool:
    """Whether the group's coordinator is known now; aiokafka forgets one that does not answer."""
    return consumer is not None and consumer._coordinator.coordinator_id is not None


def generation(consumer: Any) -> int:
    """The consumer group generation that this member is in."""
    return int(consumer._coordinator.generation)


async def committed_offsets(consumer: Any, tps: Iterable[Any]) -> dict[Any, int]:
    """One OffsetFetch for all `tps`; partitions without a commit are left out."""
    known = await consumer._coordinator.fetch_committed_offsets(list(tps))
    return {tp: meta.offset for tp, meta in known.items() if meta.offset >= 0}


def seek(consumer: Any, tp: Any, offset: int) -> None:
    """Move the fetch position; the caller checked that `tp` is assigned."""
    consumer._fetcher.seek_to(tp, offset)


def read_misnamed_headers() -> None:
    """Replace the fetcher's MemoryRecords and PartitionRecords by those below, once per process.

    aiokafka raises UnicodeDecodeError for a header name that is not UTF-8, at every attempt, and
    loses the records that it had read before it: one such record ends every worker it reaches.
    Red without it: tests/integration/test_misnamed_headers.py.
    """
    fetcher.MemoryRecords = _RawRecords
    fetcher.PartitionRecords = _TolerantRecords


class _RawRecords(fetcher.MemoryRecords):
    """Extends MemoryRecords, which does not show the bytes of a fetch response that it reads."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.raw = raw


class _TolerantRecords(fetcher.PartitionRecords):
    """Extends PartitionRecords: a batch it cannot read is read again by `record_batch`.

    Any other failure (wrong checksum, codec that is not installed) is raised, but only once the
    records before it were handed out: the first time the iteration just ends, and the next fetch
    begins at the batch that fails. Nothing is ever skipped.
    """

    next_fetch_offset: int
    _records_iterator: Any

    def __init__(self, tp: Any, records: _RawRecords, aborted: Any, offset: int, *args: Any):
        super().__init__(tp, records, aborted, offset, *args)
        self._fetched_from = offset
        self._raw_position = 0

    def __next__(self) -> ConsumerRecord:
        """Replaces PartitionRecords.__next__; as long as nothing fails it does the same."""
        try:
            return next(self._records_iterator)
        except StopIteration:
            self._records_iterator = None
            raise
        except UnicodeDecodeError:
            self._records_iterator = self._read_tolerantly()
            return next(self)
        except Exception as error:
            if self.next_fetch_offset == self._fetched_from:
                raise
            log.error("fetch.failed", error=error, offset=self.next_fetch_offset, **self._where)
            self._records_iterator = None
            raise StopIteration from None

    def _read_tolerantly(self) -> Iterator[ConsumerRecord]:
        """Read the batch in which the stock iterator failed, then go on with the stock iterator."""
        if not self._raw_position:
            log.warning("fetch.misnamed_header", offset=self.next_fetch_offset, **self._where)
        batch = record_batch.find_batch(
            self._records.raw, self._raw_position, self.next_fetch_offset
        )
        self._raw_position = batch.end
        for record in record_batch.records(batch, self._tp):
            if record.offset >= self.next_fetch_offset:
                self.next_fetch_offset = record.offset + 1
                yield record
        self.next_fetch_offset = batch.next_offset
        yield from self._unpack_records()

    @property
    def _where(self) -> dict[str, Any]:
        return {"topic": self._tp.topic, "partition": self._tp.partition}
