"""The delivery core: at-least-once delivery, effects once.

Every agent goes through `consume`; nothing else in the project sends, acknowledges or writes a
table. It extends Faust at its own seams: transport, consumer, producer, topic, app.
"""

from app.delivery.agent import consume
from app.delivery.app import App
from app.delivery.events import (
    About,
    Applied,
    Call,
    CallingHandler,
    DueHandler,
    Event,
    FailureNotices,
    Handler,
    OrderedHandler,
    Reply,
    RestoringHandler,
    Retry,
    SelectiveHandler,
    TableObserver,
    TellingHandler,
    Ticked,
    TickHandler,
    Write,
)
from app.delivery.tables import Table, declare_table, table_get, table_items
from app.delivery.ticks import DueHeap

__all__ = [
    "About",
    "App",
    "Applied",
    "Call",
    "CallingHandler",
    "DueHandler",
    "DueHeap",
    "Event",
    "FailureNotices",
    "Handler",
    "OrderedHandler",
    "Reply",
    "RestoringHandler",
    "Retry",
    "SelectiveHandler",
    "Table",
    "TableObserver",
    "TellingHandler",
    "TickHandler",
    "Ticked",
    "Write",
    "consume",
    "declare_table",
    "table_get",
    "table_items",
]
