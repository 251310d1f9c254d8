"""Consumer groups: who owns which partitions, and the product's consumer without its transport.

`SimConsumer` is `app.delivery.consumer.Consumer`: guard, cut, watermark, epochs, drained revocation
and lease are its own methods. Only what talks to a broker is replaced.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from faust.types import TP

from app.delivery.consumer import Consumer
from app.delivery.consumer_thread import Assigned
from app.delivery.positions import Positions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.delivery.batch import BatchMessage
    from chaos.simulation.worker import Worker
    from chaos.simulation.world import World

HEARTBEAT_S = 1.0
COMMIT_SOON_S = 0.5


class Thread:
    """The consumer's thread: offsets, commits and heartbeats, as the broker would answer."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.fetch_pace_s = 0.0

    @property
    def lease_at(self) -> float:
        """When the last accepted heartbeat was sent."""
        return self._worker.heard_at()

    async def call_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Ask the broker; it takes a while."""
        await self._worker.world.travel("log")
        return function(*args)

    def position_all(self, tps: set[TP]) -> Assigned:
        """Where each partition continues."""
        group = self._worker.group
        committed = {tp: at for tp, at in group.committed.items() if tp in tps}
        return Assigned(
            self._worker.generation, {tp: committed.get(tp, 0) for tp in sorted(tps)}, committed
        )

    def commit_at(self, generation: int, offsets: dict[TP, int]) -> bool:
        """Commit, unless the generation is over."""
        return self._worker.group.commit(self._worker, generation, offsets)


class SimConsumer(Consumer):
    """The product's consumer of one worker; `poll` takes the place of Faust's fetch loop."""

    def __init__(self, worker: Worker) -> None:  # the parents' would start Faust
        self.app = worker.app  # type: ignore[assignment]
        self.positions = Positions()
        self.epoch = 0
        self.generation = -1
        self.released = False
        self._positioned = self._revoked = False
        self._serial = iter(range(1, 1 << 30))  # type: ignore[assignment]
        self._pending = {}
        self._running = set()
        self._since_commit = 0
        self._commit_mutex = asyncio.Lock()
        self._room = asyncio.Event()
        self._thread = Thread(worker)  # type: ignore[assignment]
        self._worker = worker
        self._fetch_at: dict[TP, int] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._commit_due = False
        self.log = SimpleNamespace(warning=lambda *_: None)

    def assignment(self) -> set[TP]:
        """The partitions given to this member."""
        return self._worker.assigned

    def _is_changelog_tp(self, tp: TP) -> bool:
        return False

    def is_batch(self, tp: TP) -> bool:
        """Every partition here is read poll by poll."""
        return True

    def highwater(self, tp: TP) -> int:
        """The end of a partition."""
        return self._worker.world.log.end(tp.topic, tp.partition)

    def add_future(self, coro: Any) -> Any:
        """Run beside the step."""
        return asyncio.get_running_loop().create_task(coro)

    def _channel(self, tp: TP) -> Any:
        return tp.topic

    def finish(self, message: BatchMessage) -> None:
        """Extends finish: the timed commit of Faust, once for all that finished meanwhile."""
        super().finish(message)
        if not self._commit_due:
            self._commit_due = True
            self.add_future(self._commit_later())

    async def _commit_later(self) -> None:
        await asyncio.sleep(COMMIT_SOON_S)
        self._commit_due = False
        await self.commit_batches()

    def release(self) -> None:
        """Extends release: fetching starts at the positions, or where a stock seek race would."""
        self._fetch_at = dict(self.positions.next)
        faults = self._worker.world.faults
        for tp in self._fetch_at:
            self._fetch_at[tp] = faults.first_fetch(self._fetch_at[tp], self.highwater(tp))
        super().release()
        self.wake()

    def wake(self) -> None:
        """New records, or a new assignment: everyone who waits looks again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def poll(self, topics: Sequence[str]) -> BatchMessage:
        """Return the next poll of these topics."""
        world = self._worker.world
        while True:
            records = self._fetch(topics) if self.released and not world.log.down else {}
            if not records:
                await self._sleep_until_woken()
                await world.travel("log")
                continue
            groups, _, back = self._sort(records, self.epoch)
            self._fetch_at.update(back)
            kept = {tp: listed for by_tp in groups.values() for tp, listed in by_tp.items()}
            if kept:
                message = self._cut(topics[0], kept, self.generation)
                await world.travel("log")  # it waits in the queue while its epoch may end
                return message

    def _fetch(self, topics: Sequence[str]) -> dict[TP, Sequence[Any]]:
        log = self._worker.world.log
        found: dict[TP, Sequence[Any]] = {}
        limit = self._worker.world.faults.poll_records()
        for tp in sorted(self._fetch_at):
            if tp.topic in topics:
                at = self._fetch_at[tp]
                listed = log.topics[tp.topic][tp.partition][at : at + limit]
                if listed:
                    self._fetch_at[tp] = at + len(listed)
                    found[tp] = listed
        return found

    async def _sleep_until_woken(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


class Group:
    """The coordinator of one role's group."""

    def __init__(self, world: World, role: str) -> None:
        self._world = world
        self.role = role
        self.topics: list[str] = []
        self.committed: dict[TP, int] = {}
        self.generation = 0
        self.members: list[Worker] = []
        self._joining: list[Worker] = []
        self._busy = False
        self._again = False

    def commit(self, worker: Worker, generation: int, offsets: dict[TP, int]) -> bool:
        """Accept offsets of a member of the present generation."""
        if worker not in self.members or generation != self.generation:
            return False
        self.committed.update(offsets)
        self._world.note("commit", self.role, sorted(offsets.items()))
        return True

    def join(self, worker: Worker) -> None:
        """A new member: a rebalance follows."""
        self.topics = sorted(worker.app.batch_topics)
        self._joining.append(worker)
        self.rebalance()

    def expel(self, worker: Worker) -> None:
        """A member is dead, or silent for a session: a rebalance follows."""
        if worker in self.members:
            self.members.remove(worker)
        if worker in self._joining:
            self._joining.remove(worker)
        self.rebalance()

    def rebalance(self) -> None:
        """Start a rebalance, or have the one under way followed by another."""
        if self._busy:
            self._again = True
            return
        self._busy = True
        self._world.loop.spawn(self._world.loop.kernel, self._rebalance())

    async def _rebalance(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            await self._round()
        self._busy = False

    async def _round(self) -> None:
        """Revoke, wait for everybody to join or drop out, assign."""
        world = self._world
        await world.travel("log")
        leaving = [(worker, worker.revoke()) for worker in self.members]
        deadline = world.loop.time() + world.settings.rebalance_timeout_s
        for worker, revoked in leaving:
            while not revoked.done() and worker in self.members and worker.process.alive:
                if world.loop.time() >= deadline:
                    self.members.remove(worker)
                    break
                await asyncio.sleep(0.1)
        self.members = [one for one in [*self.members, *self._joining] if one.process.alive]
        self._joining = []
        self.generation += 1
        world.note("generation", self.role, self.generation, len(self.members))
        shares: list[set[TP]] = [set() for _ in self.members]
        for partition in range(world.log.partitions):
            if shares:
                index = (partition + self.generation) % len(shares)
                shares[index].update(TP(topic, partition) for topic in self.topics)
        for worker, share in zip(self.members, shares, strict=True):
            worker.assign(self.generation, share)
