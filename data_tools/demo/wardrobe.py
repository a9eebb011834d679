"""Items of the demo set: what each one is, what it is called, what it looks like."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fhn_jax.data_tools.demo.cloth import Cloth, Colour, mix
from fhn_jax.data_tools.demo.garments import render
from fhn_jax.data_tools.demo.garments.parts import COLOURS, luma
from jaxtyping import Float
from PIL import Image

CATEGORIES = ("top", "bottom", "shoe")

_NEUTRAL = ("white", "cream", "beige", "grey", "charcoal", "black", "navy")
_DARK = ("navy", "charcoal", "black", "grey", "brown", "burgundy", "forest green")
_LEATHER = ("black", "brown", "camel", "burgundy", "white", "navy")
_DENIM = ("blue", "light blue", "navy", "charcoal", "black", "grey", "white")

# Kinds with large panels in the accent colour, which the title then names.
_TRIMMED = ("sneakers", "high-top sneakers")

_PERIODS = {
    "plain": (8.0, 8.0),
    "striped": (6.0, 9.5),
    "pinstriped": (4.6, 7.0),
    "checked": (6.0, 10.0),
    "plaid": (7.5, 10.0),
    "dotted": (6.5, 9.5),
    "floral": (11.0, 15.0),
    "colour-block": (7.6, 8.4),
}
_WORDS = {
    "striped": "striped",
    "pinstriped": "pinstriped",
    "checked": "checked",
    "plaid": "plaid",
    "dotted": "polka-dot",
    "floral": "floral",
    "colour-block": "colour-block",
}
LOUDNESS = {
    "plain": 0.0,
    "striped": 0.55,
    "pinstriped": 0.35,
    "checked": 0.6,
    "plaid": 0.75,
    "dotted": 0.7,
    "floral": 1.0,
    "colour-block": 0.5,
}


@dataclass(frozen=True)
class Kind:
    """A kind of garment.

    Attributes:
      category: one of `CATEGORIES`.
      formality: 0 for sport, 1 for the office.
      warmth: 0 for the beach, 1 for snow.
      materials: (word in the title, weave it is drawn with).
      patterns: pattern -> relative frequency.
      favourites: colours that come up more often.
      only_favourites: no other colours.
    """

    category: str
    formality: float
    warmth: float
    materials: tuple[tuple[str, str], ...]
    patterns: dict[str, int]
    favourites: tuple[str, ...] = ()
    only_favourites: bool = False


_COTTON = (("cotton", "smooth"), ("jersey", "smooth"))
_HIDE = (("leather", "leather"), ("suede", "wool"))

KINDS: dict[str, Kind] = {
    "tank top": Kind(
        "top",
        0.10,
        0.05,
        _COTTON,
        {"plain": 4, "striped": 2, "dotted": 1, "floral": 2, "colour-block": 1},
    ),
    "t-shirt": Kind(
        "top",
        0.15,
        0.15,
        _COTTON,
        {"plain": 4, "striped": 3, "dotted": 1, "floral": 1, "colour-block": 1},
    ),
    "polo": Kind(
        "top",
        0.35,
        0.20,
        (("cotton", "smooth"), ("piqué", "smooth")),
        {"plain": 5, "striped": 3, "dotted": 1, "colour-block": 2},
    ),
    "shirt": Kind(
        "top",
        0.65,
        0.40,
        (("cotton", "smooth"), ("linen", "smooth"), ("poplin", "smooth")),
        {
            "plain": 3,
            "pinstriped": 2,
            "checked": 2,
            "plaid": 2,
            "dotted": 1,
            "floral": 1,
        },
        ("white", "light blue", "pink", "navy"),
    ),
    "sweater": Kind(
        "top",
        0.40,
        0.80,
        (("wool", "knit"), ("merino", "knit"), ("cashmere", "knit")),
        {"plain": 5, "striped": 3, "dotted": 1, "colour-block": 2},
    ),
    "cardigan": Kind(
        "top",
        0.45,
        0.70,
        (("wool", "knit"), ("cotton-knit", "knit")),
        {"plain": 5, "striped": 2, "dotted": 1, "checked": 1, "colour-block": 1},
    ),
    "hoodie": Kind(
        "top",
        0.05,
        0.60,
        (("fleece", "smooth"), ("cotton", "smooth")),
        {"plain": 6, "striped": 1, "checked": 1, "colour-block": 3},
    ),
    "blazer": Kind(
        "top",
        0.95,
        0.50,
        (("wool", "wool"), ("linen", "smooth"), ("tweed", "wool")),
        {"plain": 5, "pinstriped": 2, "checked": 2, "plaid": 2},
        _DARK + ("camel", "beige", "light grey"),
    ),
    "coat": Kind(
        "top",
        0.75,
        1.00,
        (("wool", "wool"), ("cashmere", "wool")),
        {"plain": 6, "checked": 1, "plaid": 3},
        _DARK + ("camel", "beige", "cream", "red"),
    ),
    "jeans": Kind(
        "bottom",
        0.25,
        0.50,
        (("denim", "denim"),),
        {"plain": 1},
        _DENIM + ("cream", "burgundy", "olive", "pink", "rust", "mint"),
        only_favourites=True,
    ),
    "chinos": Kind(
        "bottom",
        0.55,
        0.45,
        (("cotton", "smooth"), ("twill", "smooth")),
        {"plain": 6, "pinstriped": 1, "checked": 1, "plaid": 1},
        ("beige", "camel", "navy", "olive", "grey"),
    ),
    "wide-leg trousers": Kind(
        "bottom",
        0.85,
        0.45,
        (("wool", "wool"), ("crêpe", "smooth"), ("linen", "smooth")),
        {"plain": 5, "pinstriped": 3, "checked": 2, "plaid": 1, "floral": 1},
        _NEUTRAL,
    ),
    "joggers": Kind(
        "bottom",
        0.03,
        0.50,
        (("fleece", "smooth"), ("jersey", "smooth")),
        {"plain": 6, "colour-block": 3, "striped": 1},
    ),
    "shorts": Kind(
        "bottom",
        0.12,
        0.05,
        (("cotton", "smooth"), ("linen", "smooth")),
        {"plain": 5, "pinstriped": 1, "checked": 2, "floral": 2, "dotted": 1},
    ),
    "mini skirt": Kind(
        "bottom",
        0.40,
        0.20,
        (("cotton", "smooth"), ("corduroy", "rib"), ("denim", "denim")),
        {"plain": 4, "checked": 1, "plaid": 2, "dotted": 1, "floral": 1, "striped": 1},
    ),
    "pleated skirt": Kind(
        "bottom",
        0.65,
        0.40,
        (("wool", "wool"), ("crêpe", "smooth")),
        {"plain": 5, "plaid": 3, "checked": 1, "dotted": 1, "colour-block": 1},
    ),
    "maxi skirt": Kind(
        "bottom",
        0.55,
        0.25,
        (("silk", "smooth"), ("viscose", "smooth")),
        {"plain": 4, "floral": 3, "dotted": 2, "striped": 1, "checked": 1},
    ),
    "sneakers": Kind(
        "shoe", 0.10, 0.30, (("leather", "leather"), ("mesh", "smooth")), {"plain": 1}
    ),
    "high-top sneakers": Kind(
        "shoe",
        0.06,
        0.45,
        (("canvas", "smooth"),),
        {"plain": 6, "checked": 1, "floral": 1},
    ),
    "chelsea boots": Kind("shoe", 0.60, 0.80, _HIDE, {"plain": 1}, _LEATHER),
    "knee boots": Kind("shoe", 0.65, 1.00, _HIDE, {"plain": 1}, _LEATHER),
    "pumps": Kind(
        "shoe",
        0.92,
        0.30,
        (("leather", "leather"), ("satin", "leather"), ("suede", "wool")),
        {"plain": 8, "dotted": 1, "floral": 1},
        ("black", "red", "beige"),
    ),
    "loafers": Kind("shoe", 0.78, 0.40, _HIDE, {"plain": 12, "checked": 1}, _LEATHER),
    "sandals": Kind(
        "shoe",
        0.20,
        0.00,
        (("leather", "leather"), ("canvas", "smooth")),
        {"plain": 10, "striped": 1},
        ("camel", "white", "brown"),
    ),
}


@dataclass(frozen=True)
class Item:
    """One garment.

    Attributes:
      kind: key of `KINDS`.
      colour, accent: names in `COLOURS`; the accent is that of the pattern or trimmings.
      material: word in the title.
      cloth: what it is drawn with; its colours differ a little from the named ones.
      seed: of the details of the drawing.
    """

    kind: str
    colour: str
    accent: str
    material: str
    cloth: Cloth
    seed: tuple[int, ...]

    @property
    def title(self) -> str:
        """What a shop would call it, such as "navy and white striped cotton t-shirt"."""
        two = self.cloth.pattern != "plain" or self.kind in _TRIMMED
        words = [f"{self.colour} and {self.accent}" if two else self.colour]
        if self.cloth.pattern != "plain":
            words.append(_WORDS[self.cloth.pattern])
        if self.material != "denim" or self.kind != "jeans":
            words.append(self.material)
        return " ".join([*words, self.kind])

    def image(self) -> Image.Image:
        """Draws it: RGB, 291 x 291 pixels, on white."""
        return render(self.kind, self.cloth, self.seed)


def make_items(category: str, count: int, seed: int) -> list[Item]:
    """Different items of a category, all its kinds equally often.

    Args:
      category: one of `CATEGORIES`.
      count: how many.
      seed: the same seed gives the same items.
    Returns:
      items in random order; hardly two have the same kind, colours, pattern and material
      as long as there are enough of them to choose from.
    """
    number = CATEGORIES.index(category)
    rng = np.random.default_rng([seed, 1, number])
    kinds = [name for name, kind in KINDS.items() if kind.category == category]
    order = rng.permutation(np.resize(np.arange(len(kinds)), count))
    items, seen = [], set()
    for index, kind in enumerate(order):
        for _ in range(20):
            item = _make_item(kinds[kind], (seed, 2, number, index), rng)
            if (item.title, item.accent) not in seen:
                break
        seen.add((item.title, item.accent))
        items.append(item)
    return items


def _make_item(name: str, seed: tuple[int, ...], rng: np.random.Generator) -> Item:
    kind = KINDS[name]
    colours = list(COLOURS)
    weight = np.array(
        [
            (3.0 if colour in kind.favourites else float(not kind.only_favourites))
            * (2.0 if colour in _NEUTRAL else 1.0)
            for colour in colours
        ]
    )
    colour = colours[rng.choice(len(colours), p=weight / weight.sum())]
    patterns = list(kind.patterns)
    share = np.array(list(kind.patterns.values()), dtype=np.float64)
    pattern = patterns[rng.choice(len(patterns), p=share / share.sum())]
    # An accent must show on the colour; classic companions are the likeliest.
    contrast = np.array([_distance(COLOURS[colour], COLOURS[c]) for c in colours])
    classic = np.isin(colours, ("white", "cream", "navy", "black"))
    weight = np.where(contrast > 0.30, np.where(classic, 4.0, 1.0), 0.0)
    accent = colours[rng.choice(len(colours), p=weight / weight.sum())]
    material, weave = kind.materials[rng.integers(len(kind.materials))]
    low, high = _PERIODS[pattern]
    phase = rng.uniform(-0.5, 0.5)
    cloth = Cloth(
        base=_shift(COLOURS[colour], rng),
        accent=_shift(COLOURS[accent], rng),
        pattern=pattern,
        weave=weave,
        period=float(rng.uniform(low, high)),
        phase=float(phase),
        seed=int(rng.integers(2**31)),
    )
    return Item(name, colour, accent, material, cloth, seed)


def _distance(a: Colour, b: Colour) -> float:
    """How well two colours can be told apart, mostly by lightness."""
    chroma = np.hypot(a[0] - b[0], a[2] - b[2])
    return float(np.hypot(luma(a) - luma(b), 0.6 * chroma))


def _shift(colour: Colour, rng: np.random.Generator) -> Colour:
    """A dye lot: a little lighter or darker, a little off in hue."""
    light = rng.uniform(-0.07, 0.07)
    toned = mix(colour, (1.0, 1.0, 1.0) if light > 0 else (0.0, 0.0, 0.0), abs(light))
    # Whites and greys would look tinted.
    hue = (0.004 + 0.02 * (max(colour) - min(colour))) * rng.uniform(-1, 1, 3)
    return tuple(
        float(np.clip(c + d, 0.03, 0.975)) for c, d in zip(toned, hue, strict=True)
    )


def lab(rgb: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """CIE L*a*b* (D65) of sRGB colours in [0, 1]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


# Hue angles in CIE L*a*b*, degrees.
HUES = {"pink": 355, "red": 30, "yellow": 80, "green": 150, "blue": 270, "purple": 315}

ATTRIBUTES = (
    "light",
    "vivid",
    *HUES,
    "loud",
    "lines",
    "grid",
    "motif",
    "block",
    "formal",
    "warm",
    "skirt",
)


def attributes(items: Sequence[Item]) -> Float[np.ndarray, "n k"]:
    """What a person sees in each item, as numbers of about unit size.

    Columns: `ATTRIBUTES`; hues are 1 for vivid colours of exactly that hue and fade with
    the angle and towards grey.
    """
    area = {"plain": 0.0, "floral": 0.3, "dotted": 0.32}
    visible = [
        mix(
            item.cloth.base,
            item.cloth.accent,
            0.2 if item.kind in _TRIMMED else area.get(item.cloth.pattern, 0.45),
        )
        for item in items
    ]
    light, a, b = lab(np.array(visible)).T
    chroma = np.hypot(a, b) / 55
    hue = np.arctan2(b, a)
    columns = {"light": (light - 55) / 25, "vivid": (chroma - 0.5) / 0.4}
    for name, angle in HUES.items():
        near = np.exp(3.0 * (np.cos(hue - np.radians(angle)) - 1))
        columns[name] = np.minimum(chroma * 1.4, 1.3) * near
    pattern = np.array([item.cloth.pattern for item in items])
    columns["loud"] = np.array([LOUDNESS[name] for name in pattern])
    columns["lines"] = np.isin(pattern, ("striped", "pinstriped"))
    columns["grid"] = np.isin(pattern, ("checked", "plaid"))
    columns["motif"] = np.isin(pattern, ("dotted", "floral"))
    columns["block"] = pattern == "colour-block"
    kinds = [KINDS[item.kind] for item in items]
    columns["formal"] = np.array([(kind.formality - 0.45) / 0.3 for kind in kinds])
    columns["warm"] = np.array([(kind.warmth - 0.45) / 0.3 for kind in kinds])
    columns["skirt"] = np.array(
        [item.kind.endswith("skirt") or item.kind == "pumps" for item in items]
    )
    return np.stack([columns[name].astype(np.float64) for name in ATTRIBUTES], axis=1)
