"""Which dead letters have one cause: a fingerprint of who failed, on what and how.

What differs from record to record (ids, times, addresses, amounts) does not count, so one fault
that hits a thousand orders is one group.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

MESSAGE_MAX: Final = 300

_VOLATILE: Final = (
    (re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"), "<id>"),
    (
        re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"),
        "<time>",
    ),
    (re.compile(r"0x[0-9a-fA-F]+|\b(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "<hex>"),
    (re.compile(r"\d+(?:[.,:_-]\d+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)


def normalised(message: str) -> str:
    """Return `message` without what differs between records of one cause, bounded in length."""
    for pattern, word in _VOLATILE:
        message = pattern.sub(word, message)
    return message.strip()[:MESSAGE_MAX]


def fingerprint(consumer: str, topic: str, error_class: str, message: str) -> str:
    """Return 16 hex digits, equal for one consumer, topic, error class and kind of message."""
    parts = (consumer, topic, error_class, normalised(message))
    return sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]
