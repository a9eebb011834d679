r"""How much a server bears: clients that ask again as soon as they are answered.

    python benchmarks/load.py --json load.json
    python benchmarks/load.py --clients 200 --seconds 60

A million stored outfits are served as in `serve.py`, by one process with SQLite. Each
client is a visitor with a connection that stays open. Three loads in turn:

  recommend   twelve outfits a request; nothing that a visitor is shown changes his taste
  like        a like or a dislike a request
  visit       what visitors do: a judgement, then two requests for twelve outfits, the
              first of which has a taste to learn

Another connection asks for /health twenty times a second. Clients and server share the
processor, so the processor time of both stands beside the rates.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections import defaultdict
from typing import Any

try:
    from benchmarks import harness, serve
except ModuleNotFoundError:  # as `python benchmarks/load.py`
    import harness
    import serve

LOADS = ("recommend", "like", "visit")
HEALTH_SECONDS = 0.05


class Client:
    """A visitor with a connection of his own, and outfits that he may judge."""

    def __init__(self, port: int):
        self._port = port
        self._token = ""
        self._outfits: list[dict[str, int]] = []

    async def start(self) -> None:
        """Connects."""
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port
        )

    async def arrive(self) -> None:
        """Becomes a visitor, and is shown outfits enough for all judgements."""
        self._token = (await self.ask("POST", f"{serve.API}/visitors", {}))["token"]
        found = await self.ask("GET", f"{serve.API}/recommendations?k=60")
        self._outfits = [
            {item["category"]: item["item"] for item in outfit["items"]}
            for outfit in found["outfits"]
        ]

    async def recommend(self) -> None:
        await self.ask("GET", f"{serve.API}/recommendations?k=12")

    async def judge(self, number: int) -> None:
        """Likes or dislikes the outfits in turn; the next time round the other way."""
        again, place = divmod(number, len(self._outfits))
        body = {"items": self._outfits[place], "liked": (number + again) % 2 == 0}
        await self.ask("POST", f"{serve.API}/feedback", body)

    async def ask(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """The JSON of an answer.

        Args:
          key: of a change that may be repeated, and then counts once.
        Raises:
          RuntimeError: it is not one of success.
        """
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(data)}\r\n"
        if key:
            head += f"idempotency-key: {key}\r\n"
        if self._token:
            head += f"authorization: Bearer {self._token}\r\n"
        self._writer.write(head.encode() + b"\r\n" + data)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.partition("content-length:")[2].split()[0])
        content = await self._reader.readexactly(length)
        if answer.split()[1] not in ("200", "201"):
            raise RuntimeError(
                f"{method} {path}: {answer.splitlines()[0]}: {content!r}"
            )
        return json.loads(content)

    def close(self) -> None:
        self._writer.close()


async def run(
    clients: list[Client], load: str, seconds: float, taken: dict[str, list[float]]
) -> None:
    """Lets all clients ask for so long; adds the milliseconds of each request by kind."""
    end = time.perf_counter() + seconds

    async def timed(kind: str, request) -> None:
        start = time.perf_counter()
        await request
        taken[kind].append(1000 * (time.perf_counter() - start))

    async def visit(client: Client) -> None:
        for number in itertools.count():
            if load != "recommend":
                await timed("like", client.judge(number))
            if load != "like":
                await timed("recommend", client.recommend())
            if load == "visit":
                await timed("recommend", client.recommend())
            if time.perf_counter() > end:
                return

    async def watch(client: Client) -> None:
        while time.perf_counter() < end:
            await timed("health", client.ask("GET", "/health"))
            await asyncio.sleep(HEALTH_SECONDS)

    watcher, *visitors = clients
    await asyncio.gather(watch(watcher), *map(visit, visitors))


async def measure_loads(
    server: serve.Server, count: int, seconds: float
) -> list[harness.Row]:
    """All loads one after another, with so many clients."""
    rows = []
    clients = [Client(server.port) for _ in range(count + 1)]
    with contextlib.ExitStack() as stack:
        for client in clients:
            await client.start()
            stack.callback(client.close)
        for client in clients[1:]:
            await client.arrive()
        for load in LOADS:
            taken: dict[str, list[float]] = defaultdict(list)
            start, own = time.perf_counter(), time.process_time()
            of_server = server.cpu_seconds()
            await run(clients, load, seconds, taken)
            elapsed = time.perf_counter() - start
            case = f"load/{load}/{count}"
            asked = sum(len(taken[kind]) for kind in taken if kind != "health")
            for kind, values in taken.items():
                rate = len(values) / elapsed
                if kind != "health":
                    rows.append(harness.Row(case, f"{kind}, rate", "/s", (rate,)))
                for name, share in (("p50", 0.5), ("p99", 0.99), ("slowest", 1)):
                    value = serve.percentile(values, share)
                    rows.append(harness.Row(case, f"{kind}, {name}", "ms", (value,)))
            for name, used in (
                ("server", server.cpu_seconds() - of_server),
                ("clients", time.process_time() - own),
            ):
                text = f"processor time of {name}, a request"
                rows.append(harness.Row(case, text, "ms", (1000 * used / asked,)))
    return rows


def measure(count: int, seconds: float, outfits: int) -> list[harness.Row]:
    """All rows, of a server that is started for them."""
    with serve.site(outfits) as folder:
        serve.prepare(serve.Server(folder))
        server = serve.Server(folder, connections=count + 1)
        try:
            rows = asyncio.run(measure_loads(server, count, seconds))
            memory = (server.mebibytes(),)
        finally:
            server.stop()
    return [*rows, harness.Row(f"load/{count}", "resident", "MiB", memory)]


def main() -> None:
    """Measures what the command line asks for."""
    parser = harness.parser(__doc__)
    parser.add_argument("--clients", type=int, default=50, help="at once")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument(
        "--outfits", type=int, default=serve.OUTFITS, help="that are stored"
    )
    options = parser.parse_args()
    rows = measure(options.clients, options.seconds, options.outfits)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
