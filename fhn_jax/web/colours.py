"""Colours by the names that shops give them."""

import re
from collections.abc import Iterable

from PIL import ImageColor

# What CSS, whose names Pillow knows, does not name, or names a signal's colour.
_FASHION = {
    "anthracite": "#383e42",
    "aubergine": "#4a2545",
    "beige": "#dfd0b4",
    "black": "#1b1b1b",
    "blue": "#2f62b8",
    "blush": "#eec5bd",
    "bordeaux": "#5f1a2c",
    "brick": "#a04a38",
    "bronze": "#8c6a3f",
    "brown": "#6e4730",
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
    "fuchsia": "#cf3c80",
    "gold": "#c9a648",
    "graphite": "#45484c",
    "gray": "#8d8d8d",
    "green": "#3c8a4e",
    "grey": "#8d8d8d",
    "jade": "#3f9577",
    "lavender": "#b9abda",
    "lemon": "#f3e46b",
    "lilac": "#c6abd8",
    "mauve": "#a6809a",
    "mint": "#a9dcc3",
    "mocha": "#76584a",
    "mustard": "#cf9f2c",
    "navy": "#1f2b50",
    "nude": "#e2bfa6",
    "ochre": "#c17f2b",
    "offwhite": "#f5f2e8",
    "orange": "#e07a2c",
    "peach": "#f7c3a2",
    "petrol": "#1f5560",
    "pink": "#e79bb1",
    "plum": "#6c2c57",
    "purple": "#6b3f86",
    "red": "#cc2936",
    "rose": "#e0a0ad",
    "rust": "#a9502a",
    "sage": "#9caf88",
    "sand": "#d9c7a3",
    "stone": "#b9b1a4",
    "taupe": "#8f8176",
    "teal": "#1f7a7a",
    "terracotta": "#bd6244",
    "wine": "#642334",
    "yellow": "#f0cf3d",
}
_NAMES = ImageColor.colormap | _FASHION


def swatch(text: str) -> str | None:
    """The colour of a name as #rrggbb; None if it names none, or several.

    >>> swatch("Light blue"), swatch("washed black"), swatch("multicolour")
    ('#add8e6', '#1b1b1b', None)
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
