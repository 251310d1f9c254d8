"""The commands `symphony dlq ls|groups|show|replay|edit|discard|purge`.

Those on jobs stand in `chaos.console.dlq_jobs`, those on floods in `chaos.console.floods`.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from app.cli import Failure, Json, print_json, print_table
from chaos.console import dlq_jobs, floods
from chaos.console.dlq_jobs import Follow, tell
from chaos.console.options import LabDir, Operator, Url, api_of, signed

Topic = Annotated[
    str, typer.Argument(help="A dead-letter topic, payment.requested.dlt, or the topic itself.")
]
OptionalTopic = Annotated[str, typer.Argument(help="Only this dead-letter topic; default: all.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log.")]
Ids = Annotated[list[str] | None, typer.Option("--id", help="This letter; may be repeated.")]
Group = Annotated[str, typer.Option("--fingerprint", help="Only letters of this group.")]

dlq = typer.Typer(no_args_is_help=True, help="Dead letters: look, send back, put away, delete.")
floods.register(dlq)


def register(root: typer.Typer) -> None:
    """Add `symphony dlq`."""
    root.add_typer(dlq, name="dlq")


@dlq.command("ls")
def ls(
    topic: OptionalTopic = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    status: Annotated[str, typer.Option(help="open, redriven, discarded, purged.")] = "",
    fingerprint: Group = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Count dead letters by topic, or list those of one topic."""
    api = api_of(url, lab_dir)
    if not topic:
        found = api.get("/api/dlq/topics")
        if as_json:
            print_json(found)
        else:
            print_table([_topic_row(one) for one in found["topics"]])
            typer.echo(f"{found['open']} open")
        return
    asked = {"n": limit, "status": status, "fingerprint": fingerprint}
    query = urlencode({name: value for name, value in asked.items() if value})
    found = api.get(f"/api/dlq/{quote(topic, safe='')}/peek?{query}")
    if as_json:
        print_json(found)
        return
    print_table([_letter_row(one) for one in found["letters"]])
    if not found["letters"]:
        typer.echo("no dead letters there")


@dlq.command("groups")
def groups(
    topic: OptionalTopic = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """List dead letters by cause: who failed, on what, how."""
    query = f"?{urlencode({'topic': topic})}" if topic else ""
    found = api_of(url, lab_dir).get(f"/api/dlq/groups{query}")
    if as_json:
        print_json(found)
        return
    print_table(
        [
            {
                "fingerprint": one["fingerprint"],
                "topic": one["topic"],
                "open": one["open"],
                "of": one["letters"],
                "consumer": one["consumer"],
                "error": _error(one["errorClass"], one["message"])[:80],
            }
            for one in found["groups"]
        ]
    )
    if not found["groups"]:
        typer.echo("no dead letters")


@dlq.command("show")
def show(
    letter_id: Annotated[str, typer.Argument(help="The id of a dead letter.")],
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Print one dead letter whole: origin, error, headers, payload, and what a replay would do."""
    found = api_of(url, lab_dir).get(f"/api/dlq/letters/{quote(letter_id, safe='')}")
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['topic']}[{found['partition']}]@{found['offset']}: {found['status']}")
    typer.echo(f"from {found['originTopic']}[{found['originPartition']}]@{found['originOffset']},"
               f" parked by {found['consumer']} after {found['attempts']} attempts,"
               f" redriven {found['redrives']} times")  # fmt: skip
    typer.echo(_error(found["errorClass"], found["errorMessage"]))
    if found["note"]:
        typer.echo(f"note: {found['note']}")
    if found["verdict"]:
        typer.echo(f"a replay would: {_said(found['verdict'])}")
    typer.echo(f"key {found['key']}\n")
    for header in found["headers"]:
        typer.echo(f"  {header['name']}: {header.get('text', header.get('hex', 'null'))}")
    typer.echo("")
    typer.echo(_payload(found["payload"]))


@dlq.command("replay")
def replay(
    topic: OptionalTopic = "",
    *,
    letter_id: Ids = None,
    fingerprint: Group = "",
    from_offset: Annotated[int | None, typer.Option(min=0, help="First offset.")] = None,
    to_offset: Annotated[int | None, typer.Option(min=0, help="Last offset.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only of this partition.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would happen; change nothing.")] = False,
    rate: Annotated[int | None, typer.Option(min=1, help="Letters per second at most.")] = None,
    reason: Reason = "",
    follow: Follow = False,
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Send dead letters back: of one topic (all, some, a range, a group), or of all topics.

    Exit codes with --follow: 0 all were sent or were done already, 1 some were refused or the job
    failed.
    """
    ranged = from_offset is not None or to_offset is not None or partition is not None
    if not topic and (letter_id or ranged):
        raise Failure("name the topic whose letters are meant")
    if ranged and (letter_id or fingerprint):
        raise Failure("give offsets, or --id, or --fingerprint")
    body: dict[str, Any] = {"dryRun": dry_run, "reason": reason}
    if rate is not None:
        body["ratePerS"] = rate
    if fingerprint:
        body["fingerprint"] = fingerprint
    if letter_id:
        body["ids"] = letter_id
    path = "/api/dlq/replay-all"
    if topic:
        path = f"/api/dlq/{quote(topic, safe='')}/replay"
    if ranged:
        path += "-range"
        body |= {"fromOffset": from_offset or 0, "toOffset": _last(to_offset)}
        if partition is not None:
            body["partition"] = partition
    api = api_of(url, lab_dir)
    reply = api.post(path, body, signed(operator))
    if dry_run:
        _print_dry_run(reply, as_json=as_json)
    else:
        tell(api, reply, follow=follow, as_json=as_json)


@dlq.command("edit")
def edit(
    letter_id: Annotated[str, typer.Argument(help="The id of a dead letter.")],
    payload: Annotated[str, typer.Argument(help="The new content, JSON; - reads it from stdin.")],
    reason: Reason = "",
    follow: Follow = False,
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Publish another content in the place of a dead letter."""
    text = sys.stdin.read() if payload == "-" else payload
    try:
        content = json.loads(text)
    except ValueError as error:
        raise Failure(f"the payload is not JSON: {error}") from None
    api = api_of(url, lab_dir)
    path = f"/api/dlq/letters/{quote(letter_id, safe='')}/edit"
    reply = api.post(path, {"payload": content, "reason": reason}, signed(operator))
    tell(api, reply, follow=follow, as_json=as_json)


@dlq.command("discard")
def discard(
    topic: Topic,
    reason: Annotated[str, typer.Option(help="Why; must be given.")],
    letter_id: Ids = None,
    fingerprint: Group = "",
    follow: Follow = False,
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Put dead letters of a topic away for a reason: some, a group, or all that are open."""
    body: dict[str, Any] = {"reason": reason}
    if letter_id:
        body["ids"] = letter_id
    if fingerprint:
        body["fingerprint"] = fingerprint
    api = api_of(url, lab_dir)
    path = f"/api/dlq/{quote(topic, safe='')}/discard"
    tell(api, api.post(path, body, signed(operator)), follow=follow, as_json=as_json)


@dlq.command("purge")
def purge(
    topic: Topic,
    force: Annotated[bool, typer.Option(help="Open letters of running orders as well.")] = False,
    reason: Reason = "",
    follow: Follow = False,
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Delete the records of a dead-letter topic from Kafka, for good."""
    asked = {"force": "true" if force else "", "reason": reason}
    query = urlencode({name: value for name, value in asked.items() if value})
    api = api_of(url, lab_dir)
    path = f"/api/dlq/{quote(topic, safe='')}{'?' if query else ''}{query}"
    reply = api.delete(path, signed(operator))
    tell(api, reply, follow=follow, as_json=as_json)


def _print_dry_run(reply: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(reply)
        return
    print_table(
        [
            {
                "letter": one["id"],
                "place": f"{one['topic']}[{one['partition']}]@{one['offset']}",
                "would": _said(one),
            }
            for one in reply["letters"]
        ]
    )
    counts = ", ".join(f"{count} {answer}" for answer, count in sorted(reply["tally"].items()))
    typer.echo(f"{reply['examined']} of {reply['matched']} looked at: {counts}; nothing changed")


def _topic_row(one: dict[str, Any]) -> dict[str, Any]:
    names = ("topic", "open", "claimed", "redriven", "discarded", "purged")
    return {name: one[name] for name in names}


def _letter_row(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "letter": one["id"],
        "place": f"{one['partition']}@{one['offset']}",
        "status": one["status"],
        "key": (one["key"] or "")[:36],
        "error": _error(one["errorClass"], one["errorMessage"])[:60],
    }


def _error(error_class: str, message: str) -> str:
    """Class and message of an error; ours begin with their class."""
    return message if message.startswith(error_class) else f"{error_class}: {message}"


def _said(verdict: dict[str, Any]) -> str:
    return f"{verdict['answer'].replace('_', ' ')} ({verdict['reason']})"


def _payload(payload: dict[str, Any] | None) -> str:
    if payload is None:
        return "(null)"
    if "json" in payload:
        return json.dumps(payload["json"], indent=2)
    more = f"\n... {payload['bytes']} bytes in all" if payload.get("truncated") else ""
    return str(payload.get("text", payload.get("hexdump", ""))) + more


def _last(offset: int | None) -> int:
    return 2**63 - 1 if offset is None else offset


# Help lists commands in the order of their registration: jobs after what asks for them.
dlq_jobs.register(dlq)
