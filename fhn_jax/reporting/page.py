"""Building blocks of the report: pictures of outfits, cards, sections, the document."""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.images import ImageStore, thumbnail
from fhn_jax.data.item_names import ItemNames
from fhn_jax.data.pictures import UnsuitableImage
from fhn_jax.reporting.contact_sheet import as_worn

THUMBNAIL_PX = 144

_CSS = (resources.files("fhn_jax.reporting") / "report.css").read_text("utf-8")
_GAP = -2  # in place of an item: the gap of a question

TICK = '<span class="tick" role="img" aria-label="liked">✓</span>'
TICK_RIGHT = '<span class="tick">✓ right</span>'
TICK_CHOSEN = '<span class="tick">✓ chosen</span>'
CROSS_CHOSEN = '<span class="cross">✗ chosen</span>'


class Pictures:
    """Items and outfits as HTML; a picture is written when its item is first shown.

    Attributes:
      names: what items and users are called; by default by image names and numbers.
    """

    def __init__(
        self,
        folder: Path,
        catalogue: Catalogue,
        images: ImageStore | None,
        names: ItemNames,
    ):
        self._folder, self.names = folder, names
        self._catalogue = catalogue
        self._images = images
        self._written: set[str] = set()
        if images is not None:
            (folder / "items").mkdir()

    def item(self, category: int, item: int) -> str:
        """One item: its picture, or its name if there is none or it cannot be read."""
        catalogue = self._catalogue
        kind, name = catalogue.categories[category], catalogue.names[category][item]
        called = (
            self.names.title(category, item) or self.names.id(category, item) or name
        )
        label = escape(f"{kind}: {called}")
        no_picture = f'<span class="name" title="{label}">{escape(called)}</span>'
        if self._images is None:
            return no_picture
        # A number, never the item's own name, so that no name leaves the folder.
        file = f"items/{catalogue.offsets[category] + item:07d}.jpg"
        if file not in self._written:
            try:
                picture = thumbnail(self._images, name, THUMBNAIL_PX)
            except UnsuitableImage:
                return no_picture
            path = self._folder / file
            picture.save(path, "JPEG", quality=80, optimize=True)
            self._written.add(file)
        return (
            f'<img src="{file}" alt="{label}" title="{label}" loading="lazy" '
            f'width="{THUMBNAIL_PX}" height="{THUMBNAIL_PX}">'
        )

    def outfit(self, items: Int[np.ndarray, " s"], gap: Sequence[int] = ()) -> str:
        """The items stacked as worn, one row a category; slots in `gap` are left open."""
        open_slots = np.isin(np.arange(len(items)), gap)
        shown = np.where(open_slots, _GAP, items).tolist()
        stacked = "".join(
            f"<div>{''.join(self._cell(*cell) for cell in line)}</div>"
            for line in as_worn(self._catalogue.slots, shown)
        )
        return f'<div class="stack">{stacked}</div>'

    def titles(self, items: Int[np.ndarray, " s"]) -> str:
        """What the items are called, a line each; "" where nothing is known."""
        called = self.names.called(self._catalogue.slots, items.tolist())
        lines = "".join(f"<div>{escape(text)}</div>" for text in called)
        return f'<div class="titles">{lines}</div>' if lines and self._images else ""

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
    """An outfit in a list; `state` is "hit", "miss" or ""."""
    caption = f'<div class="caption">{caption}</div>' if caption else ""
    return f'<li class="{state}">{body}{caption}</li>'


def section(title: str, lead: str, body: str) -> str:
    """A section of the page; all arguments are HTML."""
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


def document(
    catalogue: Catalogue, results: Mapping[str, Any], sections: Sequence[str]
) -> str:
    """The whole HTML page.

    Args:
      results: the content of results.json.
      sections: HTML.
    """
    facts = (
        f"{results['split']} split · {results['users']:,} users · "
        f"{results['positives']:,} liked outfits · {catalogue.num_items:,} items"
    )
    checksums = (
        f"config {results['config_hash']} · codes {results['codes_sha256'][:16]}"
    )
    words = _in_words(results)
    dataset = catalogue.dataset
    return html_page(dataset, "outfit codes", facts, words, sections, checksums)


def html_page(
    dataset: str,
    subject: str,
    facts: str,
    words: str,
    sections: Sequence[str],
    footer: str,
) -> str:
    """A page about a data set, with what is common to all of them.

    Args:
      dataset: what the data are called.
      subject: of the page, such as "outfit codes".
      facts: a line below the heading.
      words: the page in a sentence; HTML.
      sections: HTML.
      footer: where the page comes from.
    """
    dataset, is_demo = escape(dataset), dataset == "demo"
    banner = ""
    if is_demo:
        banner = (
            '<p class="banner" role="note"><b>Demo data</b>: drawn garments, simulated '
            "users. These figures say that the pipeline works, and nothing about real "
            "people.</p>"
        )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{dataset} · {subject}</title>
<style>
{_CSS}</style>
</head>
<body>
{banner}
<main>
<header class="top"><h1>{subject.capitalize()}: {dataset}</h1><p>{escape(facts)}</p>
{words}</header>
{"".join(sections)}
<footer>fhn_jax · {escape(footer)}</footer>
</main>
</body>
</html>
"""


def with_pictures(text: str, parts: Path) -> str:
    """The page with the files that it names in it."""
    kinds = {".png": "image/png", ".jpg": "image/jpeg"}

    def inline(match: re.Match) -> str:
        file = parts / match[2]
        data = base64.b64encode(file.read_bytes()).decode()
        return f'{match[1]}="data:{kinds[file.suffix]};base64,{data}"'

    return re.sub(r'(src|srcset)="([\w/-]+\.(?:png|jpg))"', inline, text)
