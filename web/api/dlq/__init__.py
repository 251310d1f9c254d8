"""Dead letters through the API: look, replay, edit, discard, purge; jobs do the work.

Every route stands here, fixed names before the topics that could stand in their place.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from web.api.dlq import changes, jobs, reads
from web.api.dlq.requests import STATUSES
from web.api.filters import choice
from web.api.letters import (
    OFFSET_MAX,
    PARTITION_MAX,
    DiscardIn,
    DryRunOut,
    EditIn,
    GroupsOut,
    JobOut,
    JobsOut,
    LetterOut,
    LettersOut,
    RangeIn,
    ReplayAllIn,
    ReplayIn,
    TopicOut,
    TopicsOut,
)
from web.routes import OPERATOR, Param, Route

_TOPIC = Param(
    "topic",
    Annotated[str, Meta(max_length=200, examples=["payment.requested.dlt"])],
    "a dead-letter topic; older spellings are understood",
)
_LETTER = Param("id", Annotated[str, Meta(extra_json_schema={"format": "uuid"})], "the letter's id")
_JOB = Param("id", Annotated[str, Meta(extra_json_schema={"format": "uuid"})], "the job's id")
_HOW_MANY = Annotated[int, Meta(ge=1, le=100)]
_LIMIT = Param("limit", _HOW_MANY, "how many; the setting dlq_list_max is the most")
_AFTER = Param("after", str, "`next` of an earlier answer")
_OFFSET = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]
_FINGERPRINT = Param(
    "fingerprint", Annotated[str, Meta(min_length=1, max_length=16)], "only of this group"
)
_LOCATION = (Param("Location", str, "where the job is followed"),)
_CHANGE = (400, 409, 413, 415, 422)
_RANGE_QUERY = (
    Param("fromOffset", _OFFSET, "the first offset, without a body"),
    Param("toOffset", _OFFSET, "the last offset, without a body"),
    Param("partition", Annotated[int, Meta(ge=0, le=PARTITION_MAX)], "only there, without a body"),
)
_PEEKED = (
    _TOPIC,
    Param("n", _HOW_MANY, "how many; the setting dlq_list_max is the most"),
    _AFTER,
    choice("status", STATUSES, "only letters in this state"),
    _FINGERPRINT,
)
_PURGED = (
    _TOPIC,
    Param("force", bool, "delete open letters of orders that are under way as well"),
    Param("reason", Annotated[str, Meta(min_length=1, max_length=200)], "for the audit log"),
)

ROUTES: Final = (
    Route(
        "GET", "/api/dlq/topics", reads.topics, "Count dead letters by topic", TopicsOut,
        tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/groups", reads.groups, "Group dead letters by cause", GroupsOut,
        params=(Param("topic", Annotated[str, Meta(min_length=1, max_length=200)], "only there"),
                _LIMIT),
        problems=(400,), tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/jobs", jobs.recent, "List jobs on dead letters", JobsOut,
        params=(_LIMIT, _AFTER), problems=(400,), tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/jobs/{id}", jobs.show, "Follow a job", JobOut, params=(_JOB,),
        tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/jobs/{id}/cancel", jobs.cancel, "Stop a job", JobOut, status=202,
        params=(_JOB,), problems=(400, 409), headers=(OPERATOR,), reply_headers=_LOCATION,
        tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/letters/{id}", reads.letter, "Read a dead letter", LetterOut,
        params=(_LETTER,), tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/letters/{id}/edit", changes.edit,
        "Replace a dead letter by another message", JobOut, EditIn, status=202,
        params=(_LETTER,), problems=_CHANGE, headers=(OPERATOR,), reply_headers=_LOCATION,
        tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/replay-all", changes.replay_all, "Send back all dead letters", JobOut,
        ReplayAllIn, status=202, problems=(404, *_CHANGE), headers=(OPERATOR,),
        reply_headers=_LOCATION, also=((200, DryRunOut),), body_required=False, tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/{topic}/count", reads.count, "Count dead letters of a topic", TopicOut,
        params=(_TOPIC,), tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/{topic}/peek", reads.peek, "List dead letters of a topic", LettersOut,
        params=_PEEKED, problems=(400,), tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/{topic}/replay", changes.replay, "Send back dead letters of a topic",
        JobOut, ReplayIn, status=202, params=(_TOPIC,), problems=_CHANGE, headers=(OPERATOR,),
        reply_headers=_LOCATION, also=((200, DryRunOut),), body_required=False, tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/{topic}/replay-range", changes.replay_range,
        "Send back a range of offsets", JobOut, RangeIn, status=202,
        params=(_TOPIC, *_RANGE_QUERY), problems=_CHANGE, headers=(OPERATOR,),
        reply_headers=_LOCATION, also=((200, DryRunOut),), body_required=False, tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/{topic}/discard", changes.discard, "Put dead letters away", JobOut,
        DiscardIn, status=202, params=(_TOPIC,), problems=_CHANGE, headers=(OPERATOR,),
        reply_headers=_LOCATION, tag="dlq",
    ),
    Route(
        "DELETE", "/api/dlq/{topic}", changes.purge, "Delete the records of a dead-letter topic",
        JobOut, status=202, params=_PURGED, problems=(400, 409), headers=(OPERATOR,),
        reply_headers=_LOCATION, tag="dlq",
    ),
)  # fmt: skip
