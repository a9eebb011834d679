"""What the benchmarks share: measuring, the table and the JSON file.

Every benchmark prints a table and, with --json FILE, writes {"machine", "versions",
"commit", "rows": [{"case", "metric", "value", "unit", "min", "max", "n"}]}; a value is
the median of n measurements.
"""

import argparse
import concurrent.futures
import dataclasses
import importlib.metadata
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# `python benchmarks/NAME.py` works in a clone that is not installed.
ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from fhn_jax.files import write_json  # noqa: E402

_PACKAGES = (
    *("numpy", "numba", "jax", "jaxlib", "flax", "optax", "torch", "faiss-cpu"),
    *("usearch", "qdrant-client", "tensorflow", "pillow", "simplejpeg", "fastapi"),
    *("uvicorn", "sqlalchemy"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """Measurements of one thing.

    Attributes:
      case: what was run, such as "train_step/text_b64".
      metric: what was measured.
      unit: of the values.
      values: at least one.
    """

    case: str
    metric: str
    unit: str
    values: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The median with its spread."""
        return {
            "case": self.case,
            "metric": self.metric,
            "value": statistics.median(self.values),
            "unit": self.unit,
            "min": min(self.values),
            "max": max(self.values),
            "n": len(self.values),
        }


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of each repetition: on the clock, and of all threads of the process."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]


def timed(function: Callable[[], Any], repeats: int, warmup: int = 1) -> Timing:
    """Times a function that returns when its work is done."""
    for _ in range(warmup):
        function()
    wall, cpu = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return Timing(tuple(wall), tuple(cpu))


def peak_mebibytes() -> float:
    """Largest memory that this process held so far."""
    # Unlike getrusage, not inherited from the process that started this one.
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def resident_mebibytes() -> float:
    """Memory that this process holds now; that it held at most, where not on Linux."""
    now = _status("VmRSS")
    return peak_mebibytes() if now is None else now


def _status(name: str) -> float | None:
    """MiB of an entry of /proc/self/status, None without."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else ()
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return None


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process of its own: nobody else's memory, threads, caches.

    Args:
      function: at the top level of its module.
      arguments: plain values.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def parser(text: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark, with what all of them take.

    Args:
      text: what the benchmark is about.
    """
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, help="file to write the results to")
    made.add_argument("--repeats", type=count, default=7, help="of each measurement")
    return made


def count(text: str) -> int:
    """A number of at least 1: "630", "100k", "10M"."""
    factor = {"k": 10**3, "M": 10**6}.get(text[-1:], 1)
    try:
        value = int(text if factor == 1 else text[:-1]) * factor
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(
            f"{text}: expected at least 1, as in 630, 100k or 10M"
        )
    return value


def report(
    rows: Sequence[Row], json_path: Path | None, accelerator: str | None = None
) -> None:
    """Prints the table, and writes the JSON file.

    Args:
      rows: in the order to print.
      json_path: the file, if any.
      accelerator: what `accelerator` said where the work was done.
    """
    result = {
        "machine": machine(accelerator),
        "versions": versions(),
        "commit": commit(),
        "rows": [row.to_json() for row in rows],
    }
    for name in ("machine", "versions"):
        print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in result[name].items()))
    print(f"commit: {result['commit']}\n")
    lines = [("case", "metric", "median", "min", "max", "unit", "n")]
    for row in result["rows"]:
        numbers = [f"{row[key]:,.4g}" for key in ("value", "min", "max")]
        lines.append((row["case"], row["metric"], *numbers, row["unit"], str(row["n"])))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())
    if json_path is not None:
        write_json(json_path, result)


def machine(accelerator: str | None = None) -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "load": round(os.getloadavg()[0], 1),
        "accelerator": accelerator,
        "system": f"{platform.system()} {platform.machine()}",
    }


def accelerator() -> str | None:
    """The kind of jax's first device, None for a CPU. Starts jax."""
    import jax

    device = jax.devices()[0]
    return None if device.platform == "cpu" else device.device_kind


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter, where installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout, with a "+" where files differ; None without git."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
