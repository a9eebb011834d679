r"""The server under load: how long a visitor waits.

    python benchmarks/serve.py --json serve.json

A million stored outfits of 100,000 items (random codes of 128 bits in two modalities)
are served by `python -m fhn_jax.main serve` in a process of its own, with SQLite. This
process sends --rate requests a second, whether or not earlier ones have been answered,
over connections that stay open: five recommendations to one like or dislike, by 50
visitors. Latency is counted from when a request was due, so that a server that falls
behind is not flattered. Ready is when /ready first answers, with warm files and compiled
kernels; memory is the resident set after the load.

    python benchmarks/serve.py --fuzz 100000

lets schemathesis draw some thousand requests from the server's own OpenAPI description,
valid and not, and sends so many of them, in any order, by 8 visitors at once; counts
answers of 5xx, looks whether another visitor's state is as it was, and how memory grew.
"""

import concurrent.futures
import contextlib
import functools
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from benchmarks import harness, retrieval
except ModuleNotFoundError:  # as `python benchmarks/serve.py`
    import harness
    import retrieval

from fhn_jax.files import write_json
from fhn_jax.retrieval.outfit_index import OutfitIndex

API = "/api/v1"
OUTFITS = 10**6
VISITORS = 50
THREADS = 8
# Of six requests one is a judgement.
JUDGES = 6
READY_SECONDS = 300
# Of the fuzz: requests drawn for each operation and mode, and parts between which the
# memory is looked at.
DRAWN, PARTS = 150, 4


class Server:
    """A server in a process of its own.

    Args:
      folder: of the run and the index.
      connections: of one address, at most.
    """

    def __init__(self, folder: Path, connections: int = 256):
        with socket.socket() as some:
            some.bind(("127.0.0.1", 0))
            self.port = some.getsockname()[1]
        command = [sys.executable, "-m", "fhn_jax.main", "serve", "--rate=0"]
        command += [f"--workdir={folder / 'run'}", f"--index={folder / 'index'}"]
        command.append(f"--connections={connections}")
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, f"--port={self.port}"], cwd=harness.ROOT, stdout=subprocess.PIPE
        )
        while True:
            try:
                with contextlib.closing(self.connect()) as connection:
                    if ask(connection, "GET", "/ready")[0] == 200:
                        break
            except OSError:
                if time.perf_counter() - started > READY_SECONDS:
                    raise
            if self.process.poll() is not None:
                raise RuntimeError("the server has ended; see above")
            time.sleep(0.01)
        self.ready_seconds = time.perf_counter() - started
        self.ready_cpu_seconds = self.cpu_seconds()

    def connect(self) -> http.client.HTTPConnection:
        """A connection that stays open."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.connect()
        # Else a small request waits for the answer to an earlier packet.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def cpu_seconds(self) -> float:
        """Processor time so far, the system's for it included."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        return sum(map(int, stat.split()[11:13])) / os.sysconf("SC_CLK_TCK")

    def mebibytes(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [x for x in status.splitlines() if x.startswith("VmRSS:")]
        return int(line.split()[1]) / 1024

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(30)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    token: str | None = None,
) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    headers = {"content-type": "application/json"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, headers)
    answer = connection.getresponse()
    text = answer.read()
    is_json = "json" in answer.getheader("content-type", "")
    return answer.status, json.loads(text) if text and is_json else None


@contextlib.contextmanager
def site(outfits: int) -> Iterator[Path]:
    """A folder with a run of random codes and an index of so many outfits."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        codes = retrieval.make_codes("clustered", None)
        codes.save(folder / "run" / "codes.safetensors")
        data = {"root": str(folder), "variant": "none"}
        write_json(folder / "run" / "config.json", {"data": data})
        OutfitIndex.build(
            folder / "index", codes, retrieval.make_outfits(codes, outfits)
        )
        yield folder


def prepare(server: Server) -> None:
    """Waits for what only the first start makes: compiled loops, bounds of pairs."""
    with contextlib.closing(server.connect()) as connection:
        connection.sock.settimeout(READY_SECONDS)
        token = ask(connection, "POST", f"{API}/visitors", {})[1]["token"]
        ask(connection, "POST", f"{API}/compose", {"k": 1}, token)
    server.stop()


def load(server: Server, rate: float, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each request, by kind, at a steady rate."""
    tokens, outfits = [], {}
    with contextlib.closing(server.connect()) as connection:
        for _ in range(VISITORS):
            token = ask(connection, "POST", f"{API}/visitors", {})[1]["token"]
            tokens.append(token)
            found = ask(connection, "GET", f"{API}/recommendations", token=token)[1]
            outfits[token] = found["outfits"]
    taken: dict[str, list[float]] = {"recommend": [], "feedback": []}
    connections = threading.local()
    lock = threading.Lock()

    def send(number: int, due: float) -> None:
        if not hasattr(connections, "one"):
            connections.one = server.connect()
        token = tokens[number % VISITORS]
        if number % JUDGES:
            kind, request = "recommend", ("GET", f"{API}/recommendations?k=12", None)
        else:
            with lock:
                outfit = outfits[token].pop(0)
            items = {item["category"]: item["item"] for item in outfit["items"]}
            body = {"items": items, "liked": number % 4 == 0}
            kind, request = "feedback", ("POST", f"{API}/feedback", body)
        status, answer = ask(connections.one, *request, token=token)
        if status not in (200, 201):
            raise RuntimeError(f"{kind} was answered {status}: {answer}")
        with lock:
            taken[kind].append(1000 * (time.perf_counter() - due))
            if kind == "recommend":
                outfits[token] = answer["outfits"]

    start = time.perf_counter() + 0.1
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        pending = []
        for number in range(int(rate * seconds)):
            due = start + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            pending.append(pool.submit(send, number, due))
        for one in pending:
            one.result()
    return taken


def percentile(values: list[float], share: float) -> float:
    """The value that so many do not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def measure(rate: float, seconds: float, repeats: int) -> list[harness.Row]:
    """All rows of the load."""
    rows: list[harness.Row] = []
    found: dict[tuple[str, str], list[float]] = {}
    ready, ready_cpu, memory = [], [], []
    with site(OUTFITS) as folder:
        prepare(Server(folder))
        for _ in range(repeats):
            server = Server(folder)
            try:
                ready.append(server.ready_seconds)
                ready_cpu.append(server.ready_cpu_seconds)
                for kind, values in load(server, rate, seconds).items():
                    for name, share in (("p50", 0.5), ("p99", 0.99)):
                        value = percentile(values, share)
                        found.setdefault((kind, name), []).append(value)
                memory.append(server.mebibytes())
            finally:
                server.stop()
    for (kind, name), values in found.items():
        text = f"{name} at {rate:g} requests/s, 1M outfits"
        rows.append(harness.Row(f"serve/{kind}", text, "ms", tuple(values)))
    rows.append(harness.Row("serve/start", "ready", "s", tuple(ready)))
    text = "ready, processor time"
    rows.append(harness.Row("serve/start", text, "s", tuple(ready_cpu)))
    rows.append(harness.Row("serve/memory", "resident", "MiB", tuple(memory)))
    return rows


# --- requests of any kind ---------------------------------------------------------


def drawn(server: Server, each: int) -> list[tuple[str, str, dict, bytes | None]]:
    """Requests that schemathesis draws, valid and not: so many for each operation."""
    import requests
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable

    address = f"http://127.0.0.1:{server.port}"
    schema = schemathesis.openapi.from_url(f"{address}{API}/openapi.json")
    found = []

    def keep(case):
        request = requests.Request(
            **{
                name: value
                for name, value in case.as_transport_kwargs(base_url=address).items()
                if name in ("method", "url", "headers", "params", "data", "json")
                or name == "files"
            }
        ).prepare()
        if (request.method, request.path_url) != ("DELETE", f"{API}/visitors/me"):
            body = request.body
            body = body.encode() if isinstance(body, str) else body
            found.append((request.method, request.path_url, request.headers, body))

    for result in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            strategy = result.ok().as_strategy(generation_mode=mode)
            draw = settings(
                max_examples=each,
                database=None,
                deadline=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(given(case=strategy)(keep))
            with contextlib.suppress(Unsatisfiable):
                draw()
    return found


def fuzz(count: int) -> list[harness.Row]:
    """Sends so many requests of any kind; what came of them."""
    with site(10_000) as folder:
        server = Server(folder)
        try:
            with contextlib.closing(server.connect()) as connection:
                mine, *others = (
                    ask(connection, "POST", f"{API}/visitors", {})[1]["token"]
                    for _ in range(1 + THREADS)
                )
                body = {"items": {"top": 1, "bottom": 2, "shoe": 3}, "liked": True}
                ask(connection, "POST", f"{API}/feedback", body, mine)
                before = ask(connection, "GET", f"{API}/visitors/me", token=mine)
            requests_ = drawn(server, DRAWN)
            memory = [server.mebibytes()]
            for part in range(PARTS):
                send = functools.partial(
                    replay, server, requests_, count // PARTS // THREADS
                )
                with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
                    seeds = range(part * THREADS, (part + 1) * THREADS)
                    list(pool.map(send, others, seeds))
                memory.append(server.mebibytes())
            with contextlib.closing(server.connect()) as connection:
                after = ask(connection, "GET", f"{API}/visitors/me", token=mine)
                if after != before:
                    raise AssertionError(f"state was lost: {before}, now {after}")
                counted = answers(server)
        finally:
            server.stop()
    print("answers:", dict(sorted(counted.items())))
    failed = sum(n for status, n in counted.items() if status >= 500)
    values = {
        "drawn": len(requests_),
        "sent": sum(counted.values()),
        "answers of 5xx": failed,
    }
    return [
        *(
            harness.Row("serve/fuzz", n, "requests", (float(v),))
            for n, v in values.items()
        ),
        harness.Row("serve/fuzz", "resident, before", "MiB", (memory[0],)),
        *(
            harness.Row(
                "serve/fuzz", f"resident, after {n} of {PARTS}", "MiB", (value,)
            )
            for n, value in enumerate(memory[1:], 1)
        ),
    ]


def replay(server: Server, requests_, count: int, token: str, seed: int) -> None:
    """Sends requests in any order, as fast as they are answered."""
    rng = random.Random(seed)
    connection = server.connect()
    for _ in range(count):
        method, path, headers, body = rng.choice(requests_)
        shown = {
            name: value
            for name, value in headers.items()
            if name.lower() in ("content-type", "accept")
        }
        if rng.random() < 0.95:
            shown["authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, body, shown)
            connection.getresponse().read()
        except (http.client.HTTPException, OSError, ValueError):
            # What cannot be sent, or a server that closed after refusing a body.
            connection.close()
            connection = server.connect()
    connection.close()


def answers(server: Server) -> Counter[int]:
    """How many answers of each status the server has given, as it says itself."""
    with contextlib.closing(server.connect()) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    counted: Counter[int] = Counter()
    line = r'fhn_request_seconds_count\{.*status="(\d+)"\} (\S+)'
    for status, number in re.findall(line, text):
        counted[int(status)] += int(float(number))
    return counted


def main() -> None:
    """Measures what the command line asks for."""
    parser = harness.parser(__doc__)
    parser.set_defaults(repeats=3)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each repeat")
    parser.add_argument("--fuzz", type=int, default=0, help="so many requests instead")
    options = parser.parse_args()
    if options.fuzz:
        rows = fuzz(options.fuzz)
    else:
        rows = measure(options.rate, options.seconds, options.repeats)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
