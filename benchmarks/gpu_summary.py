"""Adds a step of gpu.sh to its results, and writes what all of them say on one page.

    python benchmarks/gpu_summary.py FOLDER STEP SECONDS STATUS JSON

FOLDER/results.jsonl has a line a step: its seconds and exit status, and what its benchmark
wrote, if it got that far.
"""

import json
import sys
from pathlib import Path

# Step, start of the metric, bar, and whether more is better.
BARS = (
    ("alexnet", "pairs", 6000, True),
    ("epoch", "epoch", 25, False),
    ("features", "epoch", 1, False),
)
METRICS = ("step", "pairs", "epoch", "time, ", "peak device", "share", "throughput")


def page(steps: list[dict]) -> str:
    """The summary, as Markdown."""
    lines = ["| bar | wanted | found | met |", "|---|---|---|---|"]
    rows = [(step, row) for step in steps for row in step["rows"]]
    for name, metric, bar, more in BARS:
        found = "–", "not measured"
        for step, row in rows:
            # PyTorch's rows have another case.
            if step["step"] != name or row["case"].endswith("/torch"):
                continue
            if row["metric"].startswith(metric):
                value = row["value"]
                met = value >= bar if more else value <= bar
                unit = row["unit"]
                found = f"{value:,.4g} {unit}, {row['metric']}", "yes" if met else "no"
                break
        wanted = f"{'≥' if more else '≤'} {bar:,}"
        lines.append(f"| {name} | {wanted} | {found[0]} | {found[1]} |")
    lines += ["", "| step | seconds | exit status |", "|---|---|---|"]
    lines += [f"| {s['step']} | {s['seconds']} | {s['status']} |" for s in steps]
    lines += ["", "| case | metric | median | least | largest | unit |"]
    lines += ["|---|---|---|---|---|---|"]
    for _, row in rows:
        if row["metric"].startswith(METRICS):
            numbers = " | ".join(f"{row[key]:,.4g}" for key in ("value", "min", "max"))
            lines.append(
                f"| {row['case']} | {row['metric']} | {numbers} | {row['unit']} |"
            )
    if machines := [step["machine"] for step in steps if "machine" in step]:
        lines += ["", ", ".join(f"{k} {v}" for k, v in machines[0].items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Adds the step that the command line names."""
    folder, name, seconds, status, path = sys.argv[1:]
    step = {"step": name, "seconds": int(seconds), "status": int(status), "rows": []}
    if Path(path).exists():
        step |= json.loads(Path(path).read_text())
    results = Path(folder, "results.jsonl")
    with results.open("a") as file:
        file.write(json.dumps(step) + "\n")
    steps = [json.loads(line) for line in results.read_text().splitlines()]
    Path(folder, "summary.md").write_text(page(steps))


if __name__ == "__main__":
    main()
