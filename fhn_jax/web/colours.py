"""Colours by the names that shops give them."""

import re
from collections.abc import Iterable

from PIL import ImageColor

# What CSS, whose names Pillow knows, calls otherwise or not at all.
_FASHION = {
    "anthracite": "#383e42",
    "aubergine": "#4a2545",
    "blush": "#eec5bd",
    "bordeaux": "#5f1a2c",
    "brick": "#a04a38",
    "bronze": "#8c6a3f",
    "burgundy": "#6b1f33",
    "camel": "#c19a6b",
    "caramel": "#b3723c",
    "champagne": "#ecdcc0",
    "charcoal": "#3f4347",
    "cobalt": "#1f4bb0",
    "cognac": "#9a4d21",
    "copper": "#b06a43",
    "cream": "#f5ecd7",
    "denim": "#45638a",
    "ecru": "#ece3cf",
    "emerald": "#177a55",
    "forest": "#2b4a34",
    "gold": "#c9a648",
    "graphite": "#45484c",
    "green": "#3c8a4e",
    "jade": "#3f9577",
    "lemon": "#f3e46b",
    "lilac": "#c6abd8",
    "mauve": "#a6809a",
    "mint": "#a9dcc3",
    "mocha": "#76584a",
    "mustard": "#cf9f2c",
    "nude": "#e2bfa6",
    "ochre": "#c17f2b",
    "offwhite": "#f5f2e8",
    "peach": "#f7c3a2",
    "petrol": "#1f5560",
    "plum": "#6c2c57",
    "red": "#cc2936",
    "rose": "#e0a0ad",
    "rust": "#a9502a",
    "sage": "#9caf88",
    "sand": "#d9c7a3",
    "stone": "#b9b1a4",
    "taupe": "#8f8176",
    "terracotta": "#bd6244",
    "wine": "#642334",
}
_NAMES = ImageColor.colormap | _FASHION


def swatch(text: str) -> str | None:
    """The colour of a name as #rrggbb; None if it names none, or several.

    >>> swatch("Light blue"), swatch("washed black"), swatch("multicolour")
    ('#add8e6', '#000000', None)
    """
    words = re.findall("[a-z]+", text.lower())
    if (whole := "".join(words)) in _NAMES:
        return str(_NAMES[whole])
    found = [_NAMES[word] for word in words if word in _NAMES]
    return str(found[0]) if len(found) == 1 else None


def are_colours(texts: Iterable[str]) -> bool:
    """Whether most of some texts are names of colours."""
    known = [swatch(text) is not None for text in texts]
    return 2 * sum(known) > len(known)
