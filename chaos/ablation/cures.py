"""Every cure once: what takes it out, the experiment that needs it, what breaks without it."""

from __future__ import annotations

from typing import NamedTuple

PLUGINS = "chaos.naive"
RESTLESS_S, SLOW_S, REST_S = 8.0, 20.0, 60.0


class Cure(NamedTuple):
    """`name` is the plug-in in chaos.naive and how the cure is chosen on the command line.

    Without the cure every invariant of `breaks` must be violated in `experiment`; those of
    `drags_along` may be, as consequences; any other is a false alarm. `tested` ones run in the test
    suite.
    """

    name: str
    cure: str
    removed: str
    experiment: str
    breaks: frozenset[str]
    drags_along: frozenset[str] = frozenset()
    tested: bool = False

    @property
    def patience_s(self) -> float:
        """How long a run without the cure may take to come to rest; one that cannot need not."""
        if "O4" in self.breaks:
            return RESTLESS_S if len(self.breaks) > 1 else SLOW_S
        return SLOW_S if "O4" in self.drags_along else REST_S

    @property
    def plugin(self) -> str:
        """The module that takes the cure out."""
        return f"{PLUGINS}.{self.name}"


def _cure(
    name: str,
    cure: str,
    removed: str,
    experiment: str,
    breaks: str,
    drags_along: str = "",
    *,
    tested: bool = False,
) -> Cure:
    return Cure(
        name,
        cure,
        removed,
        experiment,
        frozenset(breaks.split()),
        frozenset(drags_along.split()),
        tested,
    )


CURES: tuple[Cure, ...] = (
    _cure(
        "dual_write_after_commit",
        "outbox",
        "web publishes after its commit, forgets a failure",
        "broker-away",
        "X1 O4",
        tested=True,
    ),
    _cure(
        "dual_write_raising",
        "outbox",
        "web publishes after its commit, answers 500 on a failure",
        "broker-away",
        "X1 O4",
    ),
    _cure(
        "dual_write_before_commit",
        "outbox",
        "web publishes before its commit",
        "web-dies",
        "X2",
        "O5 P4 P6 H1 S3 S4",
    ),
    _cure(
        "relay_deletes_first",
        "delete after acknowledgement",
        "the relay deletes, then publishes",
        "relay-dies",
        "X1 O4",
    ),
    _cure(
        "no_inbox",
        "inbox",
        "the orchestrator never looks at its inbox",
        "orchestrator-dies-committed",
        "X1",
        "X4 H2",
        tested=True,
    ),
    _cure(
        "repeats_unanswered",
        "stored outputs",
        "a repeat is skipped without publishing",
        "orchestrator-dies-committed",
        "X1",
        "X4 H2",
    ),
    _cure(
        "inbox_before",
        "inbox in the transaction",
        "inbox rows are claimed before the effects",
        "orchestrator-dies-inside",
        "O4",
    ),
    _cure(
        "inbox_after",
        "inbox in the transaction",
        "inbox rows are claimed after the effects",
        "orchestrator-dies-claiming",
        "X4",
        "H2",
    ),
    _cure(
        "ack_before_effect",
        "watermark moves last",
        "offsets are committed before the effects",
        "orchestrator-dies-early",
        "E2",
        "O4",
        tested=True,
    ),
    _cure(
        "unawaited_sends",
        "acknowledged outputs",
        "outputs are sent and forgotten",
        "orchestrator-dies-acked",
        "X1",
        "X4 H2",
    ),
    _cure(
        "unawaited_changelog",
        "acknowledged changelogs",
        "changelogs are sent and forgotten",
        "orchestrator-dies-acked-patient",
        "T1",
    ),
    _cure(
        "stock_agent",
        "a failing step ends the process",
        "Faust's loop: an exception acknowledges",
        "step-raises",
        "E2",
        "O4",
    ),
    _cure(
        "swallowed_exception",
        "retry tiers and dead letters",
        "an event that fails is logged and skipped",
        "events-fail",
        "E2",
        "O4",
    ),
    _cure(
        "order_id_dedupe",
        "deduplication by event id",
        "deduplication by order id",
        "undisturbed",
        "E2 O4",
    ),
    _cure(
        "random_gateway_key",
        "one idempotency key per command",
        "a random key per gateway call",
        "payment-dies",
        "P1 P7",
        "P2 P3 P4 P6 O4",
        tested=True,
    ),
    _cure(
        "timeout_means_declined",
        "indefinite is tried again",
        "a lost answer counts as declined",
        "replies-lost",
        "P3 O7",
        "P4 P6",
    ),
    _cure(
        "key_not_cancelled",
        "cancel the key of an unknown charge",
        "an unknown charge counts as not made",
        "replies-lost-cancel",
        "P3",
        "P4 P6",
    ),
    _cure(
        "refund_lost",
        "confirm what was made",
        "a refund is confirmed and not made",
        "undisturbed",
        "P3",
        "P4 P6",
    ),
    _cure(
        "no_charge_tombstone",
        "tombstone of a refund, compensated late success",
        "a refund before its charge is forgotten, a late success too",
        "late-charge",
        "P3",
        "P4 P6",
    ),
    _cure(
        "no_reserve_tombstone",
        "tombstone of a release",
        "a release before its reservation is forgotten",
        "late-reservation",
        "S3",
    ),
    _cure(
        "no_ship_tombstone",
        "tombstone of a cancel",
        "a cancel before its shipment is forgotten",
        "late-shipment",
        "H1",
    ),
    _cure(
        "no_saga_guard",
        "guard of the saga",
        "a late reply moves a cancelled order on",
        "late-payment-result",
        "O5",
        "P2 P3 P4 O4 O7 S3 H1 H2 X4",
        tested=True,
    ),
    _cure(
        "no_version_fence",
        "version fence",
        "a stale working copy is written over PostgreSQL",
        "stale-copies",
        "O5",
        "O4 O7 X4 P2 P3 P4 S3 H1 D2 X1",
    ),
    _cure(
        "no_stock_lock",
        "row locks on stock",
        "stock is read without a lock",
        "contended-stock",
        "S1",
        "S2",
    ),
    _cure(
        "reservation_leak",
        "release gives back",
        "a release changes no stock",
        "undisturbed",
        "S1",
    ),
    _cure(
        "mutated_repeat",
        "repeats are the stored bytes",
        "a repeat is answered with another body",
        "duplicates",
        "X3",
    ),
    _cure(
        "poison_dropped",
        "dead letters of unreadable records",
        "what cannot be read is dropped",
        "poison",
        "E2",
        "E1 E3",
    ),
    _cure(
        "letter_not_sent",
        "dead letter of a parked event",
        "parked events send no dead letter",
        "gateway-in-error",
        "D2",
        "O4 X1",
    ),
    _cure(
        "blind_replay",
        "redriven records keep their ids",
        "dead letters are sent back as new events",
        "letters-sent-back",
        "X2",
        "O4",
    ),
    _cure(
        "ticks_not_kept",
        "kept outputs of timers",
        "a timer's outputs count as sent at once",
        "timer-dies",
        "X1",
        "X4",
    ),
    _cure(
        "random_partition",
        "a key keeps its partition",
        "results go to any partition",
        "undisturbed",
        "X5",
    ),
    _cure(
        "unsafe_resume",
        "deferred resume and position guard",
        "Faust's own resume and gaps",
        "worker-leaves",
        "E2",
        "O4 O7 E1",
    ),
)
