"""What the last refreshes of a run did: records, and a page of them.

The page is one file without a script, in the workdir of the run: a table, and the curves
of the trainings one after the other.
"""

import datetime
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.reporting.page import (
    escape,
    html_page,
    section,
    with_pictures,
)

# In the workdir.
RECORDS, PAGE = "refreshes.json", "refreshes.html"
_KEPT = 50
_NEW = ("new items", "new users", "new likes")


def read_records(workdir: Path) -> dict[str, Any]:
    """What is kept: the "dataset", and "refreshes", the oldest first.

    Raises:
      InputError: the file is damaged.
    """
    path = workdir / RECORDS
    if not path.is_file():
        return {"dataset": "", "refreshes": []}
    return files.read_sealed(path, "remove it: it only tells what was done")


def note(workdir: Path, record: Mapping[str, Any], dataset: str = "") -> Path:
    """Keeps a record of a refresh, and writes the page anew.

    Args:
      workdir: of the run.
      record: "outcome", a text, and as far as there are any "seconds", "changes" (what →
        how many), "before" and "after" (validation AUC), "version" (that is current then),
        "is_good" and "curves", see `refresh_curves`.
      dataset: what the data are called; "" for what they were called before.
    Returns:
      the path of the page.
    """
    kept = read_records(workdir)
    kept["dataset"] = dataset or kept["dataset"]
    now = datetime.datetime.now(datetime.UTC)
    new = {"when": now.isoformat(timespec="seconds"), **record}
    kept["refreshes"] = [*kept["refreshes"], new][-_KEPT:]
    files.write_sealed(workdir / RECORDS, kept)
    with tempfile.TemporaryDirectory() as temporary:
        text = _page(Path(temporary), kept["dataset"], kept["refreshes"])
        files.write_text(workdir / PAGE, with_pictures(text, Path(temporary)))
    return workdir / PAGE


def _page(parts: Path, dataset: str, records: Sequence[Mapping[str, Any]]) -> str:
    last = records[-1]
    version = last.get("version")
    bad = sum(not record.get("is_good", True) for record in records)
    words = "Nothing is published yet."
    if version is not None:
        words = f"Version <b>{version}</b> is served."
    facts = f"The last {len(records)}, until {_when(last)} UTC"
    if bad:
        facts += f" · {bad} marked ✗"
    sections = [section("What they did", "", _table(records))]
    trained = [record for record in records if record.get("curves")]
    if trained:
        # Charts take seconds to import, and most refreshes of a day train nothing.
        from fhn_jax.reporting.refresh_curves import curves_section

        sections.append(curves_section(parts, trained))
    return html_page(
        dataset, "refreshes", facts, f'<p class="words">{words}</p>', sections, RECORDS
    )


def _when(record: Mapping[str, Any]) -> str:
    return datetime.datetime.fromisoformat(record["when"]).strftime("%d %b %Y, %H:%M")


def _table(records: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "When (UTC)",
        "Outcome",
        "Validation AUC",
        "Items",
        "Users",
        "Likes",
        "Took",
    )
    rows = "".join(_row(record) for record in reversed(records))
    cells = "".join(f'<th scope="col">{name}</th>' for name in head)
    return (
        f'<div class="scroll"><table class="refreshes"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(record: Mapping[str, Any]) -> str:
    changes = record.get("changes", {})
    items, users, likes = (_signed(changes.get(what, 0)) for what in _NEW)
    removed = changes.get("items that are removed", 0)
    gone = f"<small>{removed:,} removed</small>" if removed else ""
    others = "".join(
        f"<small>{count:,} {escape(what)}</small>"
        for what, count in changes.items()
        if count and "visitors" in what
    )
    seconds = record.get("seconds")
    took = "–" if seconds is None else f"{seconds:,.0f} s"
    mark, kind = ("✓", "tick") if record.get("is_good", True) else ("✗", "cross")
    outcome = f'<span class="{kind}">{mark}</span> {escape(record["outcome"])}'
    cells = (outcome, _aucs(record), items + gone, users, likes + others, took)
    return (
        f'<tr><th scope="row">{_when(record)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _signed(count: int) -> str:
    return f"+{count:,}" if count else "–"


def _aucs(record: Mapping[str, Any]) -> str:
    if record.get("after") is None:
        return "–"
    return f"{record['before']:.4f} → {record['after']:.4f}"
