r"""Honest visitors beside clients that are slow, silent or stop halfway.

    python benchmarks/slow_clients.py --json slow_clients.json

The load of `serve.py` is sent twice to one server: alone, and beside --slow clients of one
address, in a process of their own. A quarter of them each

  silent  say nothing,
  head    send a byte of their headers a second,
  body    send a byte of their body a second,
  reader  ask for a file and do not read it,

and come again a second after the server closes their connection. The share is that of both p99: how
much longer the honest wait because of the others.
"""

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Iterator

try:
    from benchmarks import harness, serve
except ModuleNotFoundError:  # as `python benchmarks/slow_clients.py`
    import harness
    import serve

OUTFITS = 100_000
# Not that of the honest.
ADDRESS = "127.0.0.2"
KINDS = ("silent", "head", "body", "reader")
_HEAD = b"POST /api/v1/visitors HTTP/1.1\r\nHost: localhost\r\n"
_FILE = b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def slow_client(kind: str, port: int) -> None:
    """One client of a kind, for ever."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(ADDRESS, 0), limit=1024
            )
            with contextlib.closing(writer):
                await _be_slow(kind, reader, writer)
        await asyncio.sleep(1)


async def _be_slow(kind, reader, writer) -> None:
    if kind == "silent":
        await reader.read()
    elif kind == "reader":
        writer.write(_FILE)
        while not writer.transport.is_closing():
            await asyncio.sleep(1)
    else:
        writer.write(_HEAD)
        if kind == "body":
            writer.write(b"Content-Length: 60000\r\n\r\n")
        while not reader.at_eof():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(1)


def slow_clients(count: int, port: int) -> None:
    """So many of them; the program of their process."""

    async def all_of_them():
        await asyncio.gather(
            *(slow_client(KINDS[n % len(KINDS)], port) for n in range(count))
        )

    asyncio.run(all_of_them())


@contextlib.contextmanager
def beside(count: int, port: int) -> Iterator[None]:
    """So many slow clients meanwhile."""
    process = multiprocessing.get_context("spawn").Process(
        target=slow_clients, args=(count, port), daemon=True
    )
    process.start()
    try:
        time.sleep(3)  # until they are connected
        yield
        if process.exitcode is not None:
            raise RuntimeError("the slow clients have ended; see above")
    finally:
        process.kill()
        process.join()


def measure(slow: int, rate: float, seconds: float) -> list[harness.Row]:
    """The honest p99, alone and beside the others."""
    rows = []
    with serve.site(OUTFITS) as folder:
        serve.prepare(serve.Server(folder))
        server = serve.Server(folder)
        try:
            serve.load(server, rate, 3)
            alone = serve.load(server, rate, seconds)
            with beside(slow, server.port):
                together = serve.load(server, rate, seconds)
        finally:
            server.stop()
    for kind in alone:
        p99 = [serve.percentile(values[kind], 0.99) for values in (alone, together)]
        case = f"slow_clients/{kind}"
        rows += [
            harness.Row(case, f"p99 at {rate:g} requests/s, alone", "ms", (p99[0],)),
            harness.Row(case, f"p99 beside {slow} slow clients", "ms", (p99[1],)),
            harness.Row(case, "share", "times", (p99[1] / p99[0],)),
        ]
    return rows


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--slow", type=int, default=500, help="slow clients")
    parser.add_argument("--rate", type=float, default=30, help="honest requests/s")
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    arguments = parser.parse_args()
    rows = measure(arguments.slow, arguments.rate, arguments.seconds)
    harness.report(rows, arguments.json)


if __name__ == "__main__":
    main()
