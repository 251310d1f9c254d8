"""What can be done to a lab from outside, by name: one small file a fault or kind of fault."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chaos.nemesis.faults import gateway, network
from chaos.nemesis.faults.backend import BackendKill, BackendTerminate
from chaos.nemesis.faults.disk_full import DiskFull
from chaos.nemesis.faults.disk_slow import DiskSlow
from chaos.nemesis.faults.duplicates import Duplicates
from chaos.nemesis.faults.fault import Fault, Run, Unproved
from chaos.nemesis.faults.inside import Clock, Memory
from chaos.nemesis.faults.kill import Kill
from chaos.nemesis.faults.kill_role import KillRole
from chaos.nemesis.faults.late_results import LateResults
from chaos.nemesis.faults.locks import IdleTransaction, RowLock
from chaos.nemesis.faults.pause import Pause
from chaos.nemesis.faults.poison import Poison
from chaos.nemesis.faults.restart import Restart, RestartImmediate
from chaos.nemesis.faults.storm import Storm
from chaos.nemesis.faults.tables import TableCorruption, TableLoss
from chaos.nemesis.faults.terminate import Terminate
from chaos.nemesis.faults.zombie import Zombie

ALL: tuple[type[Fault], ...] = (
    Kill,
    KillRole,
    Terminate,
    Restart,
    RestartImmediate,
    Pause,
    Zombie,
    BackendTerminate,
    BackendKill,
    RowLock,
    IdleTransaction,
    gateway.GatewayError,
    gateway.GatewayDecline,
    gateway.GatewayTimeout,
    gateway.GatewayReplyLost,
    gateway.GatewayLatency,
    network.Down,
    network.Latency,
    network.Bandwidth,
    network.BlackHole,
    network.BlackHoleUp,
    network.ResetPeer,
    network.Slicer,
    network.LimitData,
    network.SlowClose,
    Storm,
    Clock,
    Memory,
    DiskFull,
    DiskSlow,
    TableLoss,
    TableCorruption,
    Poison,
    Duplicates,
    LateResults,
)
REGISTRY: Mapping[str, Fault] = MappingProxyType({kind.name: kind() for kind in ALL})

__all__ = ["ALL", "REGISTRY", "Fault", "Run", "Unproved"]
