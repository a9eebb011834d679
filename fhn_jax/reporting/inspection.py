"""The page of `fhn-jax inspect`: findings, counts and contact sheets of a data set.

One HTML file with its pictures in it, which can be sent to somebody.
"""

import re
import tempfile
from pathlib import Path

import numpy as np

from fhn_jax import files
from fhn_jax.data.audit import Finding, likes_of_users
from fhn_jax.data.inspection import Inspection, Table, tables
from fhn_jax.reporting import charts
from fhn_jax.reporting.charts import Axes, Theme
from fhn_jax.reporting.page import (
    Pictures,
    card,
    escape,
    html_page,
    section,
    with_pictures,
)

FILE = "inspection.html"
# Pictures of all sheets together, and of one: a page of at most 3 MB.
_MOST_PICTURES, _MOST_OF_CATEGORY = 180, 24
_MARKS = {"error": "✗", "warning": "!", "note": "i"}


def write_inspection(folder: Path, found: Inspection) -> Path:
    """Writes FOLDER/inspection.html, of at most 3 MB.

    Args:
      folder: is made where it is not there.
      found: what the page shows.
    Returns:
      the path of the page.
    """
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        parts = Path(temporary)
        text = _page(parts, found)
        files.write_text(path, with_pictures(text, parts))
    return path


def _page(parts: Path, found: Inspection) -> str:
    catalogue, items = found.catalogue, found.items
    pictures = Pictures(parts, catalogue, items.images, found.labels.names)
    words = "Training on these data would fail or mislead."
    if not found.count("error"):
        words = "Nothing stands against training on these data."
    scope = "Every image was decoded."
    if not found.full:
        scope = (
            "Of images, headers alone were read: <code>--full</code> decodes them all, "
            "and finds damaged and nearly equal ones."
        )
    sections = [
        _tiles(found),
        section("Findings", scope, _findings(found, pictures)),
        *(section(t.title, "", _table(t)) for t in tables(catalogue)),
        _likes(parts, found),
        _sheets(found, pictures),
    ]
    return html_page(
        catalogue.dataset,
        "data inspection",
        f"variant {catalogue.variant} · {found.verdict}",
        f'<p class="words">{words}</p>',
        sections,
        f"data {catalogue.checksum[:16]}",
    )


def _tiles(found: Inspection) -> str:
    catalogue = found.catalogue
    outfits = sum(len(part.positives) for part in catalogue.splits.values())
    images = int(found.items.shown.sum())
    tiles = [
        ("Users", catalogue.num_users, ""),
        ("Outfits", outfits, "liked, all splits"),
        ("Items", catalogue.num_items, f"{len(catalogue.categories)} categories"),
        ("Images", images, _sizes(found)),
    ]
    return (
        '<section class="tiles">'
        + "".join(
            f'<div class="tile"><span>{label}</span><b>{count:,}</b><small>{note}</small>'
            "</div>"
            for label, count, note in tiles
        )
        + "</section>"
    )


def _sizes(found: Inspection) -> str:
    sizes = found.items.sizes
    if not sizes:
        return "none can be shown"
    (width, height), count = next(iter(sizes.items()))
    if len(sizes) == 1:
        return f"all {width} × {height} pixels"
    others = sum(sizes.values()) - count
    return f"{count:,} of {width} × {height}, {others:,} of other sizes"


def _findings(found: Inspection, pictures: Pictures) -> str:
    if not found.findings:
        return "<p>Nothing is wrong or odd.</p>"
    return "".join(_finding(found, each, pictures) for each in found.findings)


def _finding(found: Inspection, finding: Finding, pictures: Pictures) -> str:
    share = f" of {finding.total:,}" if finding.total else ""
    remedy = re.sub("`(.+?)`", r"<code>\1</code>", escape(finding.remedy))
    examples = "".join(f"<li>{escape(text)}</li>" for text in finding.examples)
    if examples:
        rest = "<li>…</li>" if finding.has_more else ""
        shown = " open" if finding.level == "error" else ""
        examples = (
            f"<details{shown}><summary>Examples</summary><ul>{examples}{rest}</ul>"
            "</details>"
        )
    pairs = "".join(
        f'<li><div class="stack"><div>{_item(found, one, pictures)}'
        f"{_item(found, other, pictures)}</div></div></li>"
        for one, other in finding.items
    )
    if pairs:
        pairs = f'<ul class="outfits pairs">{pairs}</ul>'
    return f"""<article class="finding is-{finding.level}">
<header><span class="level"><b aria-hidden="true">{_MARKS[finding.level]}</b>
{finding.level}</span><h3>{escape(finding.what)}</h3>
<p class="count"><b>{finding.count:,}</b>{share}</p></header>
<p>{remedy}</p>{examples}{pairs}</article>"""


def _item(found: Inspection, number: int, pictures: Pictures) -> str:
    """An item by its global id."""
    offsets = found.catalogue.offsets
    category = int(np.searchsorted(offsets, number, "right")) - 1
    return pictures.item(category, number - offsets[category])


def _table(table: Table) -> str:
    """A table whose first counts are bars too."""
    most = max(counts[0] for _, counts in table.rows) or 1
    head = "".join(f'<th scope="col">{name}</th>' for name in table.header)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}<span class="bar" style="width:'
        f'{100 * counts[0] / most:.1f}%"></span></th>'
        f"{''.join(f'<td>{count:,}</td>' for count in counts)}</tr>"
        for name, counts in table.rows
    )
    return (
        f'<div class="scroll"><table class="counts"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _likes(parts: Path, found: Inspection) -> str:
    likes = likes_of_users(found.catalogue)
    if likes.min() == likes.max():
        return section("Users", f"Each has {likes.min():,} train outfits.", "")

    def draw(axes: Axes, theme: Theme) -> None:
        low, high = int(likes.min()), int(likes.max())
        bins = np.linspace(low - 0.5, high + 0.5, min(high - low + 1, 40) + 1)
        if high > 20 * max(low, 1):
            bins = np.geomspace(max(low, 1) - 0.5, high + 0.5, 41)
            axes.set(xscale="log")
        axes.hist(likes, bins=bins.tolist(), color=theme.series["users"])
        axes.set(xlabel="train outfits of a user", ylabel="users")
        axes.xaxis.set_major_formatter("{x:,.0f}")

    note = (
        f"{likes.min():,} to {likes.max():,}, half of the users have at least "
        f"{np.median(likes):,.0f}."
    )
    chart = charts.figure(parts, "likes", draw, "Likes of users", note)
    return section("Users", "", f'<div class="charts">{chart}</div>')


def _sheets(found: Inspection, pictures: Pictures) -> str:
    """A contact sheet of each category: items at equal distances in its list."""
    catalogue, shown = found.catalogue, found.items.shown
    if not shown.any():
        return ""
    each = min(_MOST_OF_CATEGORY, _MOST_PICTURES // len(catalogue.categories)) or 1
    sheets = []
    for number, category in enumerate(catalogue.categories):
        start, end = catalogue.offsets[number : number + 2]
        there = np.flatnonzero(shown[start:end])
        if not len(there):
            continue
        places = np.linspace(0, len(there) - 1, min(each, len(there))).astype(int)
        cards = "".join(
            card(
                f'<div class="stack">{pictures.item(number, item)}</div>',
                escape(found.labels.title(start + item)),
                "",
            )
            for item in there[places].tolist()
        )
        sheets.append(
            f"<h3>{escape(category)} <small>{len(places)} of {end - start:,}</small>"
            f'</h3><ul class="outfits sheet">{cards}</ul>'
        )
    return section(
        "Contact sheets", "Some items of each category, evenly spaced.", "".join(sheets)
    )
