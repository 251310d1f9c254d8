"""Command line of the proxy: `python -m chaos.proxy --help`.

Prints one JSON line with its address and seed once it listens; ends cleanly on SIGTERM and SIGINT.
A restart begins with the configuration file: toxics are not kept, so a fault ends with its process.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from chaos.proxy.api import Api
from chaos.proxy.bodies import ProxyBody, decode
from chaos.proxy.collection import Collection
from chaos.proxy.errors import ApiError
from chaos.proxy.log import say

EXIT_USAGE = 2


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog="python -m chaos.proxy",
        description="A TCP proxy with Toxiproxy's HTTP API and toxics.",
    )
    result.add_argument("--host", default="127.0.0.1", help="address of the API")
    result.add_argument("--port", type=int, default=8474, help="port of the API; 0: a free one")
    result.add_argument(
        "--config", type=Path, help="JSON list of proxies: name, listen, upstream, enabled"
    )
    result.add_argument(
        "--seed", type=int, help="seed of toxicity, jitter and slices; default: drawn and printed"
    )
    return result


async def serve(host: str, port: int, seed: int, proxies: list[ProxyBody]) -> None:
    """Serve until SIGTERM or SIGINT. Raises ApiError or OSError when a port cannot be bound."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    collection = Collection(seed)
    runner = web.AppRunner(Api(collection).application(), access_log=None)
    try:
        _, problem = await collection.populate(proxies)
        if problem is not None:
            raise problem
        await runner.setup()
        await web.TCPSite(runner, host, port, shutdown_timeout=1.0).start()
        address = runner.addresses[0]
        say("listening", host=address[0], port=address[1], seed=seed)
        await stop.wait()
    finally:
        await collection.close()
        await runner.cleanup()


def main(arguments: list[str] | None = None) -> int:
    """Run the proxy. Returns 0 after a clean end, 2 for a wrong configuration or address."""
    options = parser().parse_args(arguments)
    seed = options.seed if options.seed is not None else random.randrange(2**32)
    try:
        raw = options.config.read_bytes() if options.config is not None else b"[]"
        uvloop.run(serve(options.host, options.port, seed, decode(raw, list[ProxyBody])))
    except ApiError as error:
        sys.stderr.write(f"proxy: {error.text}\n")
        return EXIT_USAGE
    except OSError as error:
        sys.stderr.write(f"proxy: {error}\n")
        return EXIT_USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
