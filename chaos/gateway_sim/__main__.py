"""Command line of the payment gateway simulator: `python -m chaos.gateway_sim --help`.

Prints one JSON line with its address once it listens; ends cleanly on SIGTERM and SIGINT.
A restart continues from the ledger; the mode is not kept, so that a fault ends with its process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from chaos.gateway_sim.ledger import Ledger, LedgerCorruptError, LedgerLockedError
from chaos.gateway_sim.provider import Behaviour, Mode, Provider
from chaos.gateway_sim.server import GatewayServer

EXIT_USAGE = 2


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    defaults = Behaviour()
    result = argparse.ArgumentParser(
        prog="python -m chaos.gateway_sim",
        description="A fake payment provider. Amounts ending in 13 minor units are declined.",
    )
    result.add_argument("--host", default="127.0.0.1", help="address to listen on")
    result.add_argument("--port", type=int, required=True, help="port; 0 picks a free one")
    result.add_argument("--ledger", type=Path, required=True, help="append-only JSON lines file")
    result.add_argument("--mode", type=Mode, choices=list(Mode), default=defaults.mode)
    for name, meaning in (
        ("decline_rate", "share of charges declined, 0..1"),
        ("error_rate", "share of attempts answered 500, 0..1"),
        ("reply_lost_rate", "share of attempts executed without a reply, 0..1"),
        ("latency_ms_min", "shortest latency, milliseconds"),
        ("latency_ms_max", "longest latency, milliseconds"),
        ("hang_s", "how long mode TIMEOUT keeps a request, seconds"),
    ):
        option = "--" + name.replace("_", "-")
        result.add_argument(option, type=float, default=getattr(defaults, name), help=meaning)
    result.add_argument("--seed", type=int, default=defaults.seed, help="seed of all draws")
    return result


async def serve(host: str, port: int, provider: Provider, ledger: Ledger) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the address cannot be bound."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = web.Server(GatewayServer(provider, ledger).handle, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, host, port, shutdown_timeout=1.0)
    await site.start()
    address = runner.addresses[0]
    sys.stdout.write(
        json.dumps({"event": "listening", "host": address[0], "port": address[1]}) + "\n"
    )
    sys.stdout.flush()
    await stop.wait()
    await runner.cleanup()


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway. Returns 0 after a clean end, 2 for a wrong setting, ledger or address."""
    options = parser().parse_args(arguments)
    fields = {name: getattr(options, name) for name in Behaviour.__struct_fields__}
    behaviour = Behaviour(**fields)
    problem = behaviour.problem()
    if problem:
        sys.stderr.write(f"gateway-sim: {problem}\n")
        return EXIT_USAGE
    provider = Provider(behaviour)
    try:
        ledger = Ledger(options.ledger)
        for line in ledger.read():
            provider.restore(line)
        uvloop.run(serve(options.host, options.port, provider, ledger))
    except (LedgerLockedError, LedgerCorruptError, OSError) as error:
        sys.stderr.write(f"gateway-sim: {error}\n")
        return EXIT_USAGE
    ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
