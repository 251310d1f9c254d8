"""The commands `symphony chaos ls|on|off|kill|status|kinds`: chaos rules of a running lab."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from app.cli import EXIT_DIFFERENCE, Failure, Json, print_json, print_table
from app.durations import seconds_of
from chaos.console.api import Api
from chaos.console.options import Operator, signed
from chaos.workload.target import running_lab

Url = Annotated[str, typer.Option(help="The API; default: the running lab's.")]
LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]
Reason = Annotated[str, typer.Option(help="Why, for the audit log.")]

chaos = typer.Typer(no_args_is_help=True, help="Chaos rules: faults in running workers.")


def register(root: typer.Typer) -> None:
    """Add `symphony chaos`."""
    root.add_typer(chaos, name="chaos")


@chaos.command("on")
def on(
    fault: Annotated[str, typer.Argument(help="A kind of `symphony chaos kinds`.")],
    *,
    lease: Annotated[str, typer.Option("--for", help="Its lease: 30s, 5m, PT5M.")],
    reason: Reason,
    topic: Annotated[str, typer.Option(help="Only messages of this topic.")] = "",
    type_: Annotated[str, typer.Option("--type", help="Only messages of this type.")] = "",
    step: Annotated[str, typer.Option(help="Only of this step of a saga.")] = "",
    route: Annotated[str, typer.Option(help="Only requests of this route.")] = "",
    point: Annotated[str, typer.Option(help="Only at this failpoint.")] = "",
    role: Annotated[list[str] | None, typer.Option(help="Only this role; repeatable.")] = None,
    worker: Annotated[list[str] | None, typer.Option(help="Only this worker; repeatable.")] = None,
    p: Annotated[float, typer.Option("-p", help="The share that is struck.")] = 1.0,
    nth: Annotated[int, typer.Option(help="Only the n-th in each worker.")] = 0,
    times: Annotated[int, typer.Option(help="So often in each worker at most.")] = 0,
    shortest: Annotated[str, typer.Option("--min", help="Shortest delay: 100ms, 2s.")] = "",
    longest: Annotated[str, typer.Option("--max", help="Longest delay: 100ms, 2s.")] = "",
    param: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the kind; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same victims; default new.")] = None,
    share_max: Annotated[
        float | None, typer.Option(help="Largest share of keys that can be struck.")
    ] = None,
    rule_id: Annotated[str, typer.Option("--id", help="Its id; default a new one.")] = "",
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Also lose what nobody sends again.")
    ] = False,
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Put a fault in force in running workers, for a while; 3 when not all have said so."""
    scope: dict[str, Any] = {
        name: value
        for name, value in {
            "topic": topic,
            "type": type_,
            "step": step,
            "route": route,
            "point": point,
            "roles": role,
            "workers": worker,
        }.items()
        if value
    }
    params = params_of(param or [])
    for name, given in (("min_ms", shortest), ("max_ms", longest)):
        if given:
            params[name] = _seconds(given, f"--{name[:3]}") * 1000
    body: dict[str, Any] = {
        "fault": fault,
        "scope": scope,
        "p": p,
        "nth": nth,
        "times": times,
        "params": params,
        "ttlS": _seconds(lease, "--for"),
        "reason": reason,
        "unsafe": unsafe,
        "seed": seed,
        "shareMax": share_max,
    }
    if rule_id:
        body["id"] = rule_id
    _tell(_api(url, lab_dir).post("/api/chaos/rules", body, signed(operator)), as_json)


@chaos.command("off")
def off(
    rule: Annotated[str, typer.Argument(help="A rule's id, a topic, or `all`.")],
    reason: Reason = "",
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """End a rule, the rules of a topic, or all; 3 when not all workers have said so."""
    name = "" if rule == "all" else f"/{quote(rule, safe='')}"
    query = f"?{urlencode({'reason': reason})}" if reason else ""
    path = f"/api/chaos/rules{name}{query}"
    _tell(_api(url, lab_dir).delete(path, signed(operator)), as_json)


@chaos.command("ls")
def ls(url: Url = "", as_json: Json = False, lab_dir: LabDir = None) -> None:
    """List the rules that have not ended."""
    rules = _api(url, lab_dir).get("/api/chaos/rules")["rules"]
    if as_json:
        print_json(rules)
    elif rules:
        print_table([_row(rule) for rule in rules])
    else:
        typer.echo("no chaos rule is in force")


@chaos.command("status")
def status(url: Url = "", as_json: Json = False, lab_dir: LabDir = None) -> None:
    """Print the kill switch, each rule, and which workers have it in force."""
    found = _api(url, lab_dir).get("/api/chaos/status")
    if as_json:
        print_json(found)
        return
    switch = found["switch"]
    thrown = f", thrown by {switch['thrownBy']}: {switch['reason']}" if switch["thrownAt"] else ""
    typer.echo(f"kill switch at {switch['epoch']}{thrown}")
    if not found["kafka"]:
        typer.echo("Kafka is away: rules cannot be changed, the kill switch works")
    silent = [row["worker"] for row in found["workers"] if row["saidAt"] is None]
    if silent:
        typer.echo(f"not heard of lately: {', '.join(silent)}")
    if not found["rules"]:
        typer.echo("no chaos rule is in force")
    for one in found["rules"]:
        typer.echo("")
        state = "in force" if one["enabled"] else "NOT in force everywhere"
        rule = one["rule"]
        typer.echo(
            f"{rule['id']}: {rule['fault']}, {state}, {one['hits']} hits,"
            f" ends in {one['expiresInS']:.0f} s ({rule['owner']}: {rule['reason']})"
        )
        rows: list[Mapping[str, Any]] = [
            {
                "worker": row["worker"],
                "in force": "yes" if row["inForce"] else "no",
                "seen": row["seen"],
                "struck": row["struck"],
                "refused": one["refused"].get(row["worker"], ""),
            }
            for row in one["workers"]
        ]
        print_table(rows)


@chaos.command("kill")
def kill(
    reason: Reason = "",
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Throw the kill switch: every rule ends now, whether Kafka is there or not."""
    found = _api(url, lab_dir).post("/api/chaos/kill", {"reason": reason}, signed(operator))
    if as_json:
        print_json(found)
    else:
        typer.echo(f"the kill switch is at {found['epoch']}: every rule made before has ended")


@chaos.command("kinds")
def kinds(as_json: Json = False) -> None:
    """List the fault kinds and what they take; asks no lab."""
    import msgspec

    from chaos.faults.kinds import KINDS

    listed: list[Mapping[str, Any]] = [
        {
            "fault": kind.name,
            "params": ",".join(field.encode_name for field in msgspec.structs.fields(kind.params)),
            "scope": ",".join(sorted(kind.scope)) or "-",
            "meaning": kind.meaning,
        }
        for kind in KINDS.values()
    ]
    if as_json:
        print_json(listed)
    else:
        print_table([{**row, "params": row["params"] or "-"} for row in listed])


def params_of(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE texts as a kind's parameters: a value that is JSON is read as that."""
    params: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise Failure(f"--set {text}: NAME=VALUE is expected, like --set status=500")
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value
    return params


def _seconds(text: str, option: str) -> float:
    """A duration in seconds, milliseconds included; raises Failure."""
    number = text.removesuffix("ms")
    try:
        if number != text:
            return float(number) / 1000
        return seconds_of(text)
    except ValueError:
        raise Failure(f"{option} {text}: a duration is expected, like 100ms, 30s or 5m") from None


def _row(rule: dict[str, Any]) -> dict[str, Any]:
    scope = ", ".join(f"{name}={_words(value)}" for name, value in rule["scope"].items() if value)
    return {
        "id": rule["id"],
        "fault": rule["fault"],
        "scope": scope or "everywhere",
        "p": rule["p"],
        "seed": rule["seed"],
        "until": rule["expiresAt"][11:19],
        "owner": rule["owner"],
        "reason": rule["reason"],
    }


def _words(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else str(value)


def _tell(done: dict[str, Any], as_json: bool) -> None:
    """Say what a change came to; exit code 3 when it is not in force everywhere yet."""
    if as_json:
        print_json(done)
    else:
        for rule in done["rules"]:
            typer.echo(f"{rule['id']}: {rule['fault']} until {rule['expiresAt'][11:19]} UTC")
        for rule_id in done["deleted"]:
            typer.echo(f"{rule_id}: ended")
        if done["warning"]:
            typer.echo(f"warning: {done['warning']}", err=True)
        who = ", ".join(done["workers"]) or "nobody"
        typer.echo(f"in force at {who}" if done["rules"] else f"ended at {who}")
        for worker in done["pending"]:
            typer.echo(f"not yet at {worker}: {done['reasons'][worker]}", err=True)
    if not done["enabled"]:
        raise typer.Exit(EXIT_DIFFERENCE)


def _api(url: str, lab_dir: Path | None) -> Api:
    return Api(url or running_lab(lab_dir).url)
