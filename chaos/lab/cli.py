"""The commands of the lab: up, down, status, logs, restart, kill, scale, doctor."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import EXIT_FAILED, ConfigFile, Json, print_json, print_table
from app.settings import Settings, load_settings, masked
from chaos.lab.client import Lab
from chaos.lab.plan import DEFAULT_WORKERS, LabFiles, Plan
from chaos.lab.process import LabError
from chaos.observe.plan import observe_of, observed_environment

LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]
Name = Annotated[str, typer.Argument(help="A process as `symphony status` names it.")]
TRACED = {
    "SYMPHONY_TRACE_EXPORTER": "file",
    "SYMPHONY_TRACE_SAMPLE_RATIO": "1",
    "SYMPHONY_TRACE_INTERVAL_S": "0.2",  # workers are killed here, and spans with them
}
PURGE_HELP = "Also remove all its files."


def register(root: typer.Typer) -> None:
    """Add the lab's commands to the root command."""
    for command in (up, down, status, logs, restart, kill, scale, doctor):
        root.command()(command)


def up(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is ready; leave it running.")
    ] = False,
    workers: Annotated[
        list[str] | None, typer.Option("--workers", help="ROLE=COUNT; may be repeated.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="KEY=VALUE for every worker; repeatable.")
    ] = None,
    broker: Annotated[str | None, typer.Option(help="embedded or external.")] = None,
    bootstrap: Annotated[str | None, typer.Option(help="HOST:PORT of an external broker.")] = None,
    broker_port: Annotated[int, typer.Option(help="Port of the broker; 0: a free one.")] = 0,
    postgres: Annotated[str | None, typer.Option(help="embedded or external.")] = None,
    dsn: Annotated[str | None, typer.Option(help="URL of an external database.")] = None,
    postgres_port: Annotated[int, typer.Option(help="Port of PostgreSQL; 0: a free one.")] = 0,
    gateway_port: Annotated[int, typer.Option(help="Port of the gateway; 0: a free one.")] = 0,
    web_port: Annotated[int, typer.Option(help="Port of the API; 0: a free one.")] = 0,
    proxy: Annotated[
        bool | None,
        typer.Option("--proxy/--no-proxy", help="Workers reach all servers by a proxy."),
    ] = None,
    proxy_port: Annotated[int, typer.Option(help="Port of the proxy's API; 0: a free one.")] = 0,
    proxy_seed: Annotated[int | None, typer.Option(help="Seed of toxicity and jitter.")] = None,
    observe: Annotated[
        bool | None,
        typer.Option("--observe/--no-observe", help="With Prometheus and Alertmanager."),
    ] = None,
    prometheus_port: Annotated[int, typer.Option(help="Port of Prometheus; 0: a free one.")] = 0,
    alertmanager_port: Annotated[
        int, typer.Option(help="Port of Alertmanager; 0: a free one.")
    ] = 0,
    trace: Annotated[
        bool, typer.Option("--trace", help="Record every order's trace: symphony trace ORDER_ID.")
    ] = False,
    as_json: Json = False,
    lab_dir: LabDir = None,
    config_file: ConfigFile = None,
) -> None:
    """Start broker, database, gateway and all roles; without --detach until Ctrl-C."""
    settings = load_settings(
        config_file=config_file,
        lab_dir=lab_dir,
        broker_kind=broker,
        broker_bootstrap=bootstrap,
        postgres_kind=postgres,
        postgres_dsn=dsn,
        lab_proxy=proxy,
        lab_observe=observe,
    )
    plan = make_plan(
        settings,
        workers=_pairs(workers, "--workers"),
        environment={**(TRACED if trace else {}), **_pairs(env, "--env")},
        broker_port=broker_port,
        postgres_port=postgres_port,
        gateway_port=gateway_port,
        web_port=web_port,
        proxy_port=proxy_port,
        proxy_seed=proxy_seed,
        prometheus_port=prometheus_port,
        alertmanager_port=alertmanager_port,
    )
    started = time.monotonic()
    lab = Lab.up(plan, detach=detach, report=lambda line: typer.echo(line, err=True))
    document = lab.status()
    if as_json:
        print_json(document)
    else:
        typer.echo(f"all ready in {time.monotonic() - started:.1f} s: {document['web']['url']}")
    if not detach:
        _stay(lab)


def make_plan(
    settings: Settings,
    *,
    workers: dict[str, str] | None = None,
    environment: dict[str, str] | None = None,
    broker_port: int = 0,
    postgres_port: int = 0,
    gateway_port: int = 0,
    web_port: int = 0,
    proxy_port: int = 0,
    proxy_seed: int | None = None,
    prometheus_port: int = 0,
    alertmanager_port: int = 0,
) -> Plan:
    """The plan of a lab under these settings; raises LabError for what is impossible."""
    counts = dict(DEFAULT_WORKERS)
    for role, count in (workers or {}).items():
        if not count.isdigit():
            raise LabError(f"--workers {role}={count}: the count is no number")
        counts[role] = int(count)
    plan = Plan(
        lab_dir=settings.lab_dir.absolute(),
        cwd=Path.cwd(),
        workers=counts,
        broker_kind=settings.broker_kind,
        bootstrap=settings.broker_bootstrap,
        broker_port=broker_port,
        postgres_kind=settings.postgres_kind,
        dsn=settings.postgres_dsn.get_secret_value(),
        postgres_port=postgres_port,
        gateway_port=gateway_port,
        web_port=web_port,
        proxy=settings.lab_proxy,
        proxy_port=proxy_port,
        proxy_seed=proxy_seed,
        observe=observe_of(
            settings, prometheus_port=prometheus_port, alertmanager_port=alertmanager_port
        )
        if settings.lab_observe
        else None,
        namespace=settings.namespace,
        topic_partitions=settings.topic_partitions,
        stop_grace_s=settings.stop_grace_s,
        restart_backoff_max_s=settings.restart_backoff_max_s,
        ready_timeout_s=settings.lab_ready_timeout_s,
        disk_max_mb=settings.lab_disk_max_mb,
        environment={
            "SYMPHONY_SLO_TIME_SCALE": f"{settings.lab_slo_time_scale:g}",
            **(observed_environment(settings) if settings.lab_observe else {}),
            **(environment or {}),
        },
    )
    for role, number in counts.items():
        plan.check_workers(role, number)
    plan.check_proxy()
    return plan


def down(
    purge: Annotated[bool, typer.Option("--purge", help=PURGE_HELP)] = False,
    lab_dir: LabDir = None,
) -> None:
    """End the lab in good order; harmless when none runs."""
    lab = _lab(lab_dir)
    ended = lab.down()
    if purge:
        lab.files.purge()
    typer.echo("the lab is down" if ended else "no lab was running")


def status(as_json: Json = False, lab_dir: LabDir = None) -> None:
    """Print addresses and processes, with each worker's delivery status."""
    document = _lab(lab_dir).status(delivery=True)
    if as_json:
        print_json(document)
        return
    typer.echo(f"lab       {document['state']} in {document['lab_dir']}")
    typer.echo(f"broker    {document['broker']['bootstrap']} ({document['broker']['kind']})")
    typer.echo(f"postgres  {masked(document['postgres']['dsn'])} ({document['postgres']['kind']})")
    typer.echo(f"web       {document['web']['url']}")
    typer.echo(f"gateway   {document['gateway']['url']}, ledger {document['gateway']['ledger']}")
    if proxy := document["proxy"]:
        typer.echo(f"proxy     {proxy['url']}, before {', '.join(proxy['proxies'])}")
    if observe := document["observe"]:
        typer.echo(
            f"observe   prometheus {observe['prometheus']['url']},"
            f" alertmanager {observe['alertmanager']['url']}"
        )
    typer.echo("")
    print_table(
        [
            {
                "name": row["name"],
                "pid": row["pid"] or "-",
                "state": row["state"],
                "restarts": row["restarts"],
                "delivery": delivery_line(row.get("delivery") or {}),
                "note": row["reason"] or row["last_exit"],
            }
            for row in document["processes"]
        ]
    )
    for problem in document["problems"]:
        typer.echo(f"\nproblem: {problem}", err=True)


def delivery_line(delivery: dict[str, Any]) -> str:
    """A worker's delivery status in a few words: batch state, reason of a hold, lag, age."""
    words = []
    for consumer in delivery.get("consumers") or []:
        words.append(str(consumer.get("state", "")))
        if consumer.get("hold_reason"):
            words.append(f"because {consumer['hold_reason']}")
        partitions = consumer.get("partitions") or []
        words.append(f"lag {sum(row.get('lag_records') or 0 for row in partitions)}")
        ages = [row["watermark_age_s"] for row in partitions if row.get("watermark_age_s")]
        if ages:
            words.append(f"watermark {max(ages):.1f} s old")
    return ", ".join(word for word in words if word)


def logs(
    which: Annotated[
        str | None, typer.Argument(help="A role or a process; default all workers.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each.")] = 20,
    lab_dir: LabDir = None,
) -> None:
    """Print the logs of a running or ended lab."""
    files = LabFiles(load_settings(lab_dir=lab_dir).lab_dir)
    found = _log_files(files, which)
    width = max(len(name) for name in found)
    positions = {}
    for name, path in found.items():
        content = path.read_bytes()
        positions[name] = len(content)
        for line in content.decode(errors="replace").splitlines()[-lines:] if lines else ():
            typer.echo(f"{name:{width}}  {line}")
    while follow:
        time.sleep(0.2)
        for name, path in found.items():
            with path.open("rb") as file:
                file.seek(positions[name])
                complete, newline, _ = file.read().rpartition(b"\n")
            positions[name] += len(complete) + len(newline)
            for line in complete.decode(errors="replace").splitlines():
                typer.echo(f"{name:{width}}  {line}")


def _log_files(files: LabFiles, which: str | None) -> dict[str, Path]:
    """Log files by process name. Raises LabError when there are none."""
    everything = {path.stem: path for path in sorted(files.logs.glob("*.log"))}
    everything |= {name: files.log_of(name) for name in ("broker", "postgres")}
    existing = {name: path for name, path in everything.items() if path.exists()}
    found = {
        name: path
        for name, path in existing.items()
        if which is None or name == which or name.rpartition("-")[0] == which
    }
    if not found:
        names = ", ".join(existing) or f"none in {files.root}"
        raise LabError(f"no log of {which or 'a lab'}; there are: {names}")
    return found


def restart(name: Name, as_json: Json = False, lab_dir: LabDir = None) -> None:
    """Stop a process in good order, start it and wait until it is ready."""
    _print_row(_lab(lab_dir).restart(name), as_json)


def kill(
    name: Name,
    signal_name: Annotated[
        str, typer.Option("--signal", help="KILL, TERM, STOP (freeze), CONT (wake), ...")
    ] = "KILL",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Send a signal to a process; what dies of it is started again."""
    lab = _lab(lab_dir)
    pid = lab.kill(name, signal_name)
    if as_json:
        print_json({"name": name, "pid": pid, "signal": signal_name})
    else:
        typer.echo(f"{signal_name} sent to {name} (pid {pid})")


def scale(
    role: Annotated[str, typer.Argument(help="A role.")],
    count: Annotated[int, typer.Argument(min=0, help="How many workers it shall have.")],
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Start or stop workers of a role until there are COUNT."""
    rows = _lab(lab_dir).scale(role, count)
    if as_json:
        print_json(rows)
    else:
        print_table([{key: row[key] for key in ("name", "pid", "state")} for row in rows])


def doctor(as_json: Json = False, lab_dir: LabDir = None) -> None:
    """Say what is missing on this machine and how to get it; exit code 1 when something is."""
    from chaos.lab.doctor import examine

    findings = examine(lab_dir or Path(".lab"))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            word = "ok" if finding.ok else "absent" if finding.optional else "missing"
            optional = " (optional)" if finding.optional else ""
            typer.echo(f"{word:7}  {finding.name}{optional}: {finding.detail}")
    if not all(finding.ok or finding.optional for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def _lab(lab_dir: Path | None) -> Lab:
    return Lab(load_settings(lab_dir=lab_dir).lab_dir)


def _print_row(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        typer.echo(f"{row['name']} is {row['state']} (pid {row['pid']})")


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """KEY=VALUE texts, each possibly a comma list, as a dictionary."""
    pairs = {}
    for text in texts or []:
        for part in text.split(",") if option == "--workers" else [text]:
            key, equals, value = part.partition("=")
            if not key or not equals:
                raise LabError(f"{option} {part}: KEY=VALUE is expected")
            pairs[key.strip()] = value.strip()
    return pairs


def _stay(lab: Lab) -> None:
    """Keep the lab until Ctrl-C, SIGTERM or its own end, then take it down."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    typer.echo("Ctrl-C ends the lab", err=True)
    try:
        while lab.running():
            time.sleep(0.5)
        raise LabError(f"the lab has ended by itself: see {lab.files.supervisor_log}")
    except KeyboardInterrupt:
        typer.echo("taking the lab down", err=True)
        lab.down()
    sys.stdout.flush()
