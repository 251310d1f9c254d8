"""What can be done to a lab from outside, by name: one small file a fault or kind of fault."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chaos.faults.outside import gateway, network
from chaos.faults.outside.backend import BackendKill, BackendTerminate
from chaos.faults.outside.disk_full import DiskFull
from chaos.faults.outside.disk_slow import DiskSlow
from chaos.faults.outside.duplicates import Duplicates
from chaos.faults.outside.fault import Fault, Run, Unproved
from chaos.faults.outside.inside import Clock, Memory
from chaos.faults.outside.kill import Kill
from chaos.faults.outside.kill_role import KillRole
from chaos.faults.outside.late_results import LateResults
from chaos.faults.outside.locks import IdleTransaction, RowLock
from chaos.faults.outside.pause import Pause
from chaos.faults.outside.poison import Poison
from chaos.faults.outside.restart import Restart, RestartImmediate
from chaos.faults.outside.storm import Storm
from chaos.faults.outside.tables import TableCorruption, TableLoss
from chaos.faults.outside.terminate import Terminate
from chaos.faults.outside.zombie import Zombie

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
