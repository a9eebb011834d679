"""Draws milliseconds against recall from what benchmarks/peers.py wrote.

    python benchmarks/peers_chart.py docs/peers.svg benchmarks/peers/*.json

A panel for each kind of codes and number of outfits that several ways searched, and a line
for each way.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
# The same file each time, with letters as text.
matplotlib.rcParams |= {"svg.hashsalt": "peers", "svg.fonttype": "none"}

from matplotlib import pyplot  # noqa: E402

PEERS = ("ours", "faiss-hnsw", "faiss-ivf", "usearch", "qdrant")


def draw(results: Sequence[Path], chart: Path) -> None:
    """Draws the rows without a filter, for one user."""
    points: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for path in results:
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            panel, _, peer = row["case"].rpartition("/")
            target, _, metric = row["metric"].partition(": ")
            if target.startswith("all "):
                points[panel][peer][target][metric] = row["value"]
    points = {name: peers for name, peers in points.items() if len(peers) > 1}
    size = (3 * len(points), 3.2)
    figure, axes = pyplot.subplots(
        1, len(points), figsize=size, sharey=True, squeeze=False
    )
    for axis, (panel, peers) in zip(axes[0], points.items(), strict=True):
        for number, peer in enumerate(PEERS):
            found = sorted(
                (each["recall"], each["one user, cpu"])
                for each in peers.get(peer, {}).values()
            )
            recalls, times = zip(*found, strict=True) if found else ((), ())
            mark = "*-" if peer == "ours" else "o-"
            axis.plot(recalls, times, mark, label=peer, color=f"C{number}")
        axis.set(title=panel.replace("/", ", "), xlabel="recall of the 10 best")
        axis.set_yscale("log")
    axes[0, 0].set_ylabel("CPU-ms for one user")
    axes[0, -1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(chart, metadata={"Date": None})


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chart", type=Path, help="SVG file to write")
    parser.add_argument("results", nargs="+", type=Path, help="files of --json")
    arguments = parser.parse_args()
    draw(arguments.results, arguments.chart)


if __name__ == "__main__":
    main()
