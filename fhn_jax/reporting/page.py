"""What the page of a report is made of: pictures of outfits, cards, the page itself."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.images import ImageStore, thumbnail
from fhn_jax.reporting.contact_sheet import as_worn

THUMBNAIL_PX = 144

_GAP = -1  # in place of an item: the gap of a question

TICK = '<span class="tick" role="img" aria-label="liked">✓</span>'
TICK_RIGHT = '<span class="tick">✓ right</span>'
TICK_CHOSEN = '<span class="tick">✓ chosen</span>'
CROSS_CHOSEN = '<span class="cross">✗ chosen</span>'


class Pictures:
    """Items and outfits as HTML; a picture is written when an item is first shown."""

    def __init__(self, folder: Path, catalogue: Catalogue, images: ImageStore | None):
        self._folder = folder
        self._catalogue = catalogue
        self._images = images
        self._written: set[str] = set()
        if images is not None:
            (folder / "items").mkdir()

    def item(self, category: int, item: int) -> str:
        """One item: its picture, or its name where there are no pictures."""
        catalogue = self._catalogue
        kind, name = catalogue.categories[category], catalogue.names[category][item]
        label = escape(f"{kind}: {name}")
        if self._images is None:
            return f'<span class="name" title="{label}">{escape(name)}</span>'
        # A number, never the item's own name, so that no name leaves the folder.
        file = f"items/{catalogue.offsets[category] + item:07d}.jpg"
        if file not in self._written:
            picture = thumbnail(self._images, name, THUMBNAIL_PX)
            path = self._folder / file
            picture.save(path, "JPEG", quality=80, optimize=True)
            self._written.add(file)
        return (
            f'<img src="{file}" alt="{label}" title="{label}" loading="lazy" '
            f'width="{THUMBNAIL_PX}" height="{THUMBNAIL_PX}">'
        )

    def outfit(self, items: Int[np.ndarray, " s"], gap: Sequence[int] = ()) -> str:
        """The items stacked as worn, one row a category; slots in `gap` are open."""
        open_slots = np.isin(np.arange(len(items)), gap)
        shown = np.where(open_slots, _GAP, items).tolist()
        stacked = "".join(
            f"<div>{''.join(self._cell(*cell) for cell in line)}</div>"
            for line in as_worn(self._catalogue.slots, shown)
        )
        return f'<div class="stack">{stacked}</div>'

    def _cell(self, category: int, item: int) -> str:
        if item == _GAP:
            return '<span class="gap" title="the gap">?</span>'
        return self.item(category, item)


def escape(text: str) -> str:
    """Text as HTML, also within an attribute."""
    return html.escape(text, quote=True)


def ordinal(number: int) -> str:
    """1st, 2nd, …"""
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if number % 100 in (11, 12, 13) else endings.get(number % 10, "th")
    return f"{number}{ending}"


def card(body: str, caption: str, state: str) -> str:
    """An outfit of a list; `state` is "hit", "miss" or ""."""
    caption = f'<div class="caption">{caption}</div>' if caption else ""
    return f'<li class="{state}">{body}{caption}</li>'


def section(title: str, lead: str, body: str) -> str:
    """A section of the page; all is HTML."""
    lead = f"<p>{lead}</p>" if lead else ""
    return f"<section><h2>{title}</h2>{lead}{body}</section>"


def _in_words(results: Mapping[str, Any]) -> str:
    auc = results["scores"].get("binary", {}).get("auc")
    if auc is None:
        return ""
    return (
        '<p class="words">Shown an outfit that a user liked and a random one, the '
        f"binary codes pick the liked one <b>{auc:.0%}</b> of the time.</p>"
    )


def page_of(
    catalogue: Catalogue, results: Mapping[str, Any], sections: Sequence[str]
) -> str:
    """The whole page.

    Args:
      results: of results.json.
      sections: HTML.
    """
    dataset = escape(catalogue.dataset)
    banner = ""
    if catalogue.dataset == "demo":
        banner = (
            '<p class="banner" role="note"><b>Demo data</b>: drawn garments, simulated '
            "users. These figures say that the pipeline works, and nothing about real "
            "people.</p>"
        )
    facts = (
        f"{results['split']} split · {results['users']:,} users · "
        f"{results['positives']:,} liked outfits · {catalogue.num_items:,} items"
    )
    checksums = (
        f"config {results['config_hash']} · codes {results['codes_sha256'][:16]}"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{dataset} · outfit codes</title>
<style>{_CSS}</style>
</head>
<body>
{banner}
<main>
<header class="top"><h1>Outfit codes: {dataset}</h1><p>{escape(facts)}</p>
{_in_words(results)}</header>
{"".join(sections)}
<footer>fhn_jax · {escape(checksums)}</footer>
</main>
</body>
</html>
"""


_CSS = """
:root { --page: #f6f7f9; --card: #fff; --text: #1d2433; --muted: #667085;
  --line: #e4e7ee; --green: #16a34a; --red: #d9480f; --accent: #2563eb;
  --demo: #fff4d6; --demo-text: #6b4300; --demo-line: #f0c14b }
@media (prefers-color-scheme: dark) {
  :root { --page: #10141c; --card: #181e29; --text: #e6e9f0; --muted: #98a2b3;
    --line: #2c3443; --green: #4ccb80; --red: #ff8a5c; --accent: #6ea2ff;
    --demo: #3a2c07; --demo-text: #ffdf91; --demo-line: #7a5c12 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 48px }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -.02em }
h2 { font-size: 1.35rem; margin: 0 0 4px; letter-spacing: -.01em }
h3, h4 { margin: 0; font-size: 1rem } h4 small { font-weight: 400 }
p { margin: 0 0 12px } small, .note, figcaption { color: var(--muted) }
section { margin-top: 40px } section > p { color: var(--muted); max-width: 75ch }
.top p { color: var(--muted); margin: 6px 0 0 }
.top .words { color: var(--text); font-size: 1.1rem; margin-top: 14px }
.banner { margin: 0; padding: 12px 20px; text-align: center; background: var(--demo);
  color: var(--demo-text); border-bottom: 2px solid var(--demo-line) }
.banner b { text-transform: uppercase; letter-spacing: .06em }
.tiles { display: grid; gap: 14px; margin-top: 24px;
  grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)) }
.tile, .user, .question, figure, .scroll { background: var(--card);
  border: 1px solid var(--line); border-radius: 14px }
.tile { padding: 16px 18px; display: flex; flex-direction: column }
.tile span { color: var(--muted); font-size: .9rem }
.tile b { font-size: 2.1rem; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums }
.tile small { font-size: .82rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { padding: 9px 14px; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums }
tr + tr > *, tbody tr > * { border-top: 1px solid var(--line) }
th { text-align: left; font-weight: 600 }
thead th { color: var(--muted); font-weight: 500; font-size: .82rem }
thead th:not(:first-child) { text-align: right }
.results thead th:nth-child(2) { text-align: left }
.results th[rowspan] { vertical-align: top }
th small, td small { display: block; font-weight: 400; font-size: .76rem }
tr.binary > :not([rowspan]) { background: color-mix(in srgb, var(--accent) 8%, #0000) }
details { margin-top: 10px; font-size: .9rem } summary { cursor: pointer;
  color: var(--accent) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px }
dt { font-weight: 600 } dd { margin: 0; color: var(--muted) }
.user { padding: 18px; margin-top: 16px }
.user header { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: baseline }
.user header p { margin: 0; color: var(--muted); font-size: .92rem }
.strip { display: block; width: 100%; height: 14px; margin: 10px 0 14px;
  background: var(--line); border-radius: 4px; fill: var(--green) }
.two { display: grid; gap: 22px; grid-template-columns: 5fr 8fr }
.outfits { list-style: none; margin: 8px 0 0; padding: 0; display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fill, minmax(78px, 1fr)) }
.two > div + div .outfits { grid-template-columns: repeat(8, 1fr) }
.two > div:first-child .outfits { grid-template-columns: repeat(5, 1fr) }
.outfits li { border: 3px solid #0000; border-radius: 12px; min-width: 0 }
.outfits li.hit { border-color: var(--green) }
.outfits li.miss { border-color: var(--red); border-style: dashed }
.stack { background: #fff; border-radius: 9px; overflow: hidden; padding: 3px;
  box-shadow: inset 0 0 0 1px var(--line) }
.stack { display: grid; gap: 2px } .stack div { display: flex; gap: 2px }
.stack img, .stack .name, .stack .gap { display: block; flex: 1; min-width: 0;
  width: 100%; height: auto; aspect-ratio: 1; object-fit: contain }
.stack .name { color: #475067; font-size: .62rem; line-height: 1.2; padding: 4px;
  overflow: hidden; overflow-wrap: anywhere }
.stack .gap { display: grid; place-items: center; color: #475067; font-size: 1.6rem;
  border: 2px dashed #98a2b3; border-radius: 8px; background: #f2f4f7 }
.caption { display: flex; gap: 4px; align-items: baseline;
  padding: 2px 4px 3px; font-size: .76rem; font-variant-numeric: tabular-nums }
.caption .num { margin-left: auto; color: var(--muted) }
.tick { color: var(--green); font-weight: 600; white-space: nowrap }
.cross { color: var(--red); font-weight: 600; white-space: nowrap }
.questions { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)) }
.question { padding: 14px 16px }
.row { display: grid; gap: 18px; grid-template-columns: 5fr 12fr; margin-top: 8px }
.row .outfits { margin: 0; align-content: center; grid-template-columns: 1fr 1fr }
.row > .stack { align-self: center }
.charts { display: grid; gap: 14px; margin-top: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)) }
figure { margin: 0; padding: 14px 16px } figure img { width: 100%; height: auto;
  display: block; margin-top: 6px }
figcaption { font-size: .84rem; margin-top: 6px }
.charts + .scroll { margin-top: 14px } .note { margin-top: 10px }
footer { margin-top: 48px; color: var(--muted); font-size: .8rem;
  overflow-wrap: anywhere }
@media (max-width: 820px) {
  main { padding: 16px 12px 32px } h1 { font-size: 1.5rem }
  .two { grid-template-columns: 1fr } .user { padding: 14px 12px }
  .two > div .outfits, .two > div + div .outfits {
    grid-template-columns: repeat(4, 1fr); gap: 6px }
  .two > div:first-child .outfits { grid-template-columns: repeat(5, 1fr) }
  .caption { font-size: .7rem; padding: 1px 3px 2px } dl { display: block } }
"""
