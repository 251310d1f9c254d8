"""Dead letters and their jobs as the API shows them, and what may be asked of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from app.db.dead_letter_jobs import Job
from app.db.deadletters import Count, DeadLetter, Group
from app.domain.redrive import Verdict
from app.messages.deadletter import read_failure
from web.api.payloads import HeaderOut, PayloadOut, headers_out, payload_out, text_or_hex

IDS_MAX: Final = 1000
OFFSET_MAX: Final = 2**63 - 1
PARTITION_MAX: Final = 2**31 - 1
RATE_MAX: Final = 1_000_000

LetterId = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", max_length=36)
]
Fingerprint = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z", max_length=16)]
Offset = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]
Partition = Annotated[int, Meta(ge=0, le=PARTITION_MAX)]
Rate = Annotated[int, Meta(ge=1, le=RATE_MAX)]
Reason = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Why = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Ids = Annotated[list[LetterId], Meta(min_length=1, max_length=IDS_MAX)]


class ReplayIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What to send back: these letters, one group, or all that is open. `dryRun` only says."""

    ids: Ids | None = None
    fingerprint: Fingerprint | None = None
    dry_run: bool = False
    rate_per_s: Rate | None = None
    reason: Reason = ""


class RangeIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Offsets of the dead-letter topic, both inclusive; over all partitions unless one is named."""

    from_offset: Offset
    to_offset: Offset
    partition: Partition | None = None
    dry_run: bool = False
    rate_per_s: Rate | None = None
    reason: Reason = ""


class ReplayAllIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What to send back of all topics: one group, or all that is open."""

    fingerprint: Fingerprint | None = None
    dry_run: bool = False
    rate_per_s: Rate | None = None
    reason: Reason = ""


class DiscardIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What to put away, and why: these letters, one group, or all that is open of the topic."""

    reason: Why
    ids: Ids | None = None
    fingerprint: Fingerprint | None = None


class EditIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The message that takes the letter's place: a JSON object of the topic's type."""

    payload: dict[str, Any]
    reason: Reason = ""


class TopicOut(msgspec.Struct, frozen=True, rename="camel"):
    """How many dead letters of one topic are in which state."""

    topic: str
    open: int
    claimed: int
    redriven: int
    discarded: int
    purged: int
    first_at: datetime | None
    last_at: datetime | None


class TopicsOut(msgspec.Struct, frozen=True):
    """Every dead-letter topic that has letters, and how many are open in all."""

    topics: list[TopicOut]
    open: int


class GroupOut(msgspec.Struct, frozen=True, rename="camel"):
    """Letters of one cause: who failed, on what, how; `message` and `sample` are the newest's."""

    fingerprint: str
    topic: str
    consumer: str
    origin_topic: str
    error_class: str
    message: str
    letters: int
    open: int
    first_at: datetime
    last_at: datetime
    sample: str


class GroupsOut(msgspec.Struct, frozen=True):
    """Groups, those with the most open letters first; `more` when the list was cut."""

    groups: list[GroupOut]
    more: bool


class VerdictOut(msgspec.Struct, frozen=True):
    """What sending a letter back would do now."""

    answer: Literal["act", "already_done", "refused"]
    reason: str


class LetterOut(msgspec.Struct, frozen=True, rename="camel"):
    """One dead letter. `note` is why it was settled, or why it was last refused."""

    id: str
    topic: str
    partition: int
    offset: int
    status: str
    origin_topic: str
    origin_partition: int
    origin_offset: int
    consumer: str
    event_id: str | None
    order_id: str | None
    error_class: str
    error_message: str
    fingerprint: str
    attempts: int
    redrives: int
    first_failed_at: datetime
    at: datetime
    key: str | None
    headers: list[HeaderOut]
    payload: PayloadOut | None
    job_id: str | None
    settled_by: str | None
    settled_at: datetime | None
    note: str | None
    verdict: VerdictOut | None


class LettersOut(msgspec.Struct, frozen=True):
    """A part of the list of letters, newest first."""

    letters: list[LetterOut]
    next: str | None


class SaidOut(msgspec.Struct, frozen=True, rename="camel"):
    """The verdict on one letter of a dry run."""

    id: str
    topic: str
    partition: int
    offset: int
    order_id: str | None
    answer: Literal["act", "already_done", "refused"]
    reason: str


class DryRunOut(msgspec.Struct, frozen=True, rename="camel"):
    """What a replay would do: verdicts on `examined` of `matched` open letters; nothing changed."""

    matched: int
    examined: int
    tally: dict[str, int]
    letters: list[SaidOut]


class JobOut(msgspec.Struct, frozen=True, rename="camel"):
    """One job: `done` letters are settled, `refused` ones stay open; `tally` says why, by count.

    Follow it under /api/dlq/jobs/{id}.
    """

    id: str
    kind: str
    status: str
    topic: str | None
    fingerprint: str | None
    ids: int | None
    partition: int | None
    from_offset: int | None
    to_offset: int | None
    force: bool
    rate_per_s: int
    total: int
    done: int
    refused: int
    tally: dict[str, int]
    cancel_requested: bool
    requested_by: str
    reason: str | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class JobsOut(msgspec.Struct, frozen=True):
    """A part of the list of jobs, newest first."""

    jobs: list[JobOut]
    next: str | None


def topic_out(topic: str, counts: list[Count]) -> TopicOut:
    """Return the counts of one topic."""
    of = {one.status: one.letters for one in counts}
    return TopicOut(
        topic=topic,
        open=of.get("OPEN", 0),
        claimed=of.get("CLAIMED", 0),
        redriven=of.get("REDRIVEN", 0),
        discarded=of.get("DISCARDED", 0),
        purged=of.get("PURGED", 0),
        first_at=min((one.first_at for one in counts), default=None),
        last_at=max((one.last_at for one in counts), default=None),
    )


def group_out(group: Group) -> GroupOut:
    """Return the JSON form of a group."""
    return GroupOut(
        fingerprint=group.fingerprint,
        topic=group.topic,
        consumer=group.consumer,
        origin_topic=group.origin_topic,
        error_class=group.error_class,
        message=group.error_message,
        letters=group.letters,
        open=group.open,
        first_at=group.first_at,
        last_at=group.last_at,
        sample=group.sample,
    )


def letter_out(letter: DeadLetter, shown_max: int, verdict: Verdict | None = None) -> LetterOut:
    """Return the JSON form of a letter, with the verdict for a single one."""
    headers = letter.exact_headers()
    failure = read_failure(headers)
    return LetterOut(
        id=letter.id,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        status=letter.status,
        origin_topic=letter.origin_topic,
        origin_partition=letter.origin_partition,
        origin_offset=letter.origin_offset,
        consumer=letter.consumer,
        event_id=letter.event_id or None,
        order_id=letter.order_id,
        error_class=letter.error_class,
        error_message=letter.error_message,
        fingerprint=letter.fingerprint,
        attempts=failure.attempt,
        redrives=failure.redrives,
        first_failed_at=letter.first_failed_at,
        at=letter.at,
        key=text_or_hex(letter.key, shown_max),
        headers=headers_out(headers, shown_max),
        payload=payload_out(letter.value, shown_max),
        job_id=letter.job_id,
        settled_by=letter.settled_by or None,
        settled_at=letter.settled_at,
        note=letter.settle_reason or None,
        verdict=None if verdict is None else VerdictOut(verdict.answer, verdict.reason),
    )


def said_out(letter: DeadLetter, verdict: Verdict) -> SaidOut:
    """Return one line of a dry run."""
    return SaidOut(
        id=letter.id,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        order_id=letter.order_id,
        answer=verdict.answer,
        reason=verdict.reason,
    )


def job_out(job: Job) -> JobOut:
    """Return the JSON form of a job."""
    work = job.work
    return JobOut(
        id=job.id,
        kind=job.kind,
        status=job.status,
        topic=work.topic or None,
        fingerprint=work.fingerprint or None,
        ids=None if work.ids is None else len(work.ids),
        partition=work.partition,
        from_offset=work.from_offset,
        to_offset=work.to_offset,
        force=work.force,
        rate_per_s=job.rate_per_s,
        total=job.total,
        done=job.done,
        refused=job.refused,
        tally=dict(job.tally),
        cancel_requested=job.cancel_requested,
        requested_by=job.requested_by,
        reason=job.reason or None,
        error=job.error or None,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
    )
