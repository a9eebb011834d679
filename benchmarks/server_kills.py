r"""Is a like lost or doubled when the server is killed, whatever the moment?

    python -m benchmarks.server_kills --clients 200 --kills 30 --seconds 5

Clients judge outfits, one after the other, and read recommendations in between. After up
to --seconds of work the server is killed (SIGKILL) and started again, --kills times. What
was not acknowledged is repeated with the same Idempotency-Key until it is. At the end
each visitor's stored judgements must be those acknowledged, each once; any answer but
200, 201 and 503 is an error. Ends with 1 if a promise is broken.
"""

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

from benchmarks import load, serve

# What a client meets when its server dies.
_GONE = (OSError, asyncio.IncompleteReadError, IndexError)


class Site:
    """A server that is killed and started again, and what its clients count."""

    def __init__(self, folder: Path, clients: int):
        self.folder, self._connections = folder, clients + 1
        self.requests = self.repeated = self.unavailable = 0
        self.memory: list[float] = []
        self.ended = False
        self.start()

    def start(self) -> None:
        """Starts the server; it is ready then."""
        self.server = serve.Server(self.folder, self._connections)

    async def kill_after(self, seconds: float) -> None:
        """Kills the server after so long, and starts another."""
        await asyncio.sleep(seconds)
        self.memory.append(self.server.mebibytes())
        self.server.process.kill()
        self.server.process.wait()
        await asyncio.to_thread(self.start)


class Client(load.Client):
    """A visitor who repeats what was not acknowledged."""

    def __init__(self, site: Site):
        super().__init__(site.server.port)
        self._site = site
        self.acknowledged: list[tuple[dict[str, int], bool]] = []

    async def surely(self, method: str, path: str, body=None, key: str = ""):
        """The answer of the server that is there, or of the next one."""
        first = True
        while True:
            self._site.requests += 1
            self._site.repeated += not first
            first = False
            try:
                return await self.ask(method, path, body, key)
            except _GONE:
                pass
            except RuntimeError as error:
                if " 503 " not in str(error):
                    raise
                self._site.unavailable += 1
            await self._again()

    async def _again(self) -> None:
        """Connects anew, as soon as there is a server."""
        self.close()
        while True:
            await asyncio.sleep(0.1)
            self._port = self._site.server.port
            try:
                return await self.start()
            except OSError:
                pass

    async def live(self) -> None:
        """Judges outfits until the site ends."""
        number = 0
        while not self._site.ended:
            again, place = divmod(number, len(self._outfits))
            items, liked = self._outfits[place], (number + again) % 2 == 0
            body = {"items": items, "liked": liked}
            await self.surely("POST", f"{serve.API}/feedback", body, f"{number}")
            self.acknowledged.append((items, liked))
            number += 1
            if number % 5 == 0:
                await self.surely("GET", f"{serve.API}/recommendations?k=12")

    async def faults(self) -> list[str]:
        """What is stored of the visitor, and should not be, or the other way."""
        found = await self.surely("GET", f"{serve.API}/visitors/me/everything")
        stored = [(one["items"], one["liked"]) for one in found["feedback"]][::-1]
        if stored == self.acknowledged:
            return []
        return [f"{len(stored)} judgements stored, {len(self.acknowledged)} told"]


async def attack(site: Site, count: int, kills: int, seconds: float) -> list[str]:
    """Lets clients work while the server is killed; broken promises."""
    rng = random.Random(0)
    clients = [Client(site) for _ in range(count)]
    for client in clients:
        await client.start()
        await client.arrive()
    living = [asyncio.create_task(client.live()) for client in clients]
    for _ in range(kills):
        await site.kill_after(rng.uniform(0, seconds))
    await asyncio.sleep(seconds)
    site.ended = True
    await asyncio.gather(*living)
    faults = [fault for client in clients for fault in await client.faults()]
    likes = sum(len(client.acknowledged) for client in clients)
    print(
        f"{count} clients, {kills} kills, {site.requests:,} requests, {likes:,} "
        f"judgements acknowledged, {site.repeated:,} requests repeated, "
        f"{site.unavailable:,} answers of 503, {len(faults)} visitors with lost or "
        f"doubled ones; memory before the kills at most {max(site.memory):.0f} MiB"
    )
    return faults


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=200, help="at once")
    parser.add_argument("--kills", type=int, default=30, help="of the server")
    parser.add_argument("--seconds", type=float, default=5.0, help="between them")
    parser.add_argument("--outfits", type=int, default=100_000, help="that are stored")
    options = parser.parse_args()
    begun = time.monotonic()
    with serve.site(options.outfits) as folder:
        serve.prepare(serve.Server(folder))
        site = Site(folder, options.clients)
        try:
            faults = asyncio.run(
                attack(site, options.clients, options.kills, options.seconds)
            )
        finally:
            site.server.stop()
    print(f"{time.monotonic() - begun:.0f} s")
    print(*faults[:20], sep="\n", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
