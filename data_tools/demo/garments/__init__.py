"""Garments of the demo set: silhouettes of tops, bottoms and shoes.

Every kind has a function that takes the canvas, the main cloth and a random generator
for the details in which two pieces of the same kind differ.
"""

from collections.abc import Callable

import numpy as np
from fhn_jax.data_tools.demo.canvas import Canvas
from fhn_jax.data_tools.demo.cloth import Cloth
from fhn_jax.data_tools.demo.garments import (
    jackets,
    knitwear,
    shoes,
    skirts,
    sneakers,
    tops,
    trousers,
)
from PIL import Image

DRAW: dict[str, Callable[[Canvas, Cloth, np.random.Generator], None]] = {
    "tank top": tops.draw_tank,
    "t-shirt": tops.draw_tshirt,
    "polo": tops.draw_polo,
    "shirt": tops.draw_shirt,
    "sweater": knitwear.draw_sweater,
    "cardigan": knitwear.draw_cardigan,
    "hoodie": knitwear.draw_hoodie,
    "blazer": jackets.draw_blazer,
    "coat": jackets.draw_coat,
    "jeans": trousers.draw_jeans,
    "chinos": trousers.draw_chinos,
    "wide-leg trousers": trousers.draw_wide_trousers,
    "joggers": trousers.draw_joggers,
    "shorts": trousers.draw_shorts,
    "mini skirt": skirts.draw_mini_skirt,
    "pleated skirt": skirts.draw_pleated_skirt,
    "maxi skirt": skirts.draw_maxi_skirt,
    "sneakers": sneakers.draw_sneakers,
    "high-top sneakers": sneakers.draw_high_tops,
    "chelsea boots": shoes.draw_chelsea_boots,
    "knee boots": shoes.draw_knee_boots,
    "pumps": shoes.draw_pumps,
    "loafers": shoes.draw_loafers,
    "sandals": shoes.draw_sandals,
}

# Where the second shoe of a pair stands behind the first: shift of the far one, of the
# near one, in units.
_PAIRS = {
    "sneakers": ((3.0, -14.0), (-3.0, 10.0)),
    "high-top sneakers": ((4.5, -8.0), (-4.0, 12.0)),
    "chelsea boots": ((5.0, -7.0), (-4.0, 11.0)),
    "knee boots": ((12.0, -1.5), (-10.0, 2.5)),
    "pumps": ((4.0, -16.0), (-2.0, 4.0)),
    "loafers": ((4.0, -19.0), (-3.0, 9.0)),
    "sandals": ((3.0, -18.0), (-3.0, 10.0)),
}


def render(subtype: str, cloth: Cloth, seed: tuple[int, ...]) -> Image.Image:
    """Draws one item on white.

    Args:
      subtype: a key of `DRAW`.
      cloth: main cloth; shoes use its accent for trimmings.
      seed: of details, folds and wrinkles.
    Returns:
      RGB image of `outlines.SIZE` pixels square.
    """
    rng = np.random.default_rng(seed)
    canvas = Canvas(rng)
    DRAW[subtype](canvas, cloth, rng)
    if subtype in _PAIRS:
        far, near = _PAIRS[subtype]
        pair = Canvas(rng)
        pair.paste(canvas, far, 0.90)
        pair.paste(canvas, near)
        canvas = pair
    return canvas.image()
