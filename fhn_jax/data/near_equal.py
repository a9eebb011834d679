"""Pictures that are nearly equal, found among many by a perceptual hash.

Source of the hash: Krawetz 2013, "Kind of Like That" (dHash).
"""

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64
from PIL import Image

# How many of the 64 bits of two hashes may differ, and by how many of 256 levels nine
# tenths of their colours; the rest leaves room for a small logo, and a mean would be that
# of white margins. Among 1,505 photos of garments, 525 pairs have hashes this near, but
# colours only two photos of the same shorts (8 levels; the next pair 16); among 127 drawn
# garments on white, 241 pairs have such hashes, and none such colours (the nearest 12).
MAX_BITS = 4
MAX_LEVELS = 8
_COMPARED = 0.9
_SIDE = 8
# Hashes that differ in at most 4 bits agree in at least one of 5 bands of bits. A band
# takes every fifth bit, since the bits of a picture's white margins tell little.
_BANDS = tuple(
    np.uint64(sum(1 << bit for bit in range(band, 64, MAX_BITS + 1)))
    for band in range(MAX_BITS + 1)
)


def picture_hash(
    pixels: UInt8[np.ndarray, "h w 3"],
) -> tuple[np.uint64, UInt8[np.ndarray, " 192"]]:
    """What nearly equal pictures have nearly equal.

    Returns:
      dHash, the signs of the horizontal gradients of the picture scaled down to 9x8 grey
      pixels, and the colours of the picture scaled down to 8x8 pixels, since the gradients
      of all dark trousers on a light floor are alike.
    """
    picture = Image.fromarray(pixels)
    box = Image.Resampling.BOX
    grey = np.asarray(picture.convert("L").resize((_SIDE + 1, _SIDE), box), np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    colours = np.asarray(picture.resize((_SIDE, _SIDE), box)).ravel()
    return bits.view(np.uint64)[0], colours


def near_equal(
    hashes: UInt64[np.ndarray, " n"], colours: UInt8[np.ndarray, "n c"]
) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, "p 2"]]:
    """Which pictures have a nearly equal one: exact, in memory of a few times the hashes.

    Args:
      hashes, colours: see `picture_hash`.
    Returns:
      whether there is another picture with at most `MAX_BITS` other bits and nine tenths
      of the colours at most `MAX_LEVELS` away, and the pairs, sorted, each once.
    """
    found: list[np.ndarray] = []
    for band in _BANDS:
        of_band = hashes & band
        order = np.argsort(of_band, kind="stable")
        of_band = of_band[order]
        # Neighbours at a growing distance, for as long as their bands agree.
        left, step = np.arange(len(order) - 1), 1
        while len(left):
            left = left[left + step < len(order)]
            left = left[of_band[left] == of_band[left + step]]
            one, other = order[left], order[left + step]
            alike = np.bitwise_count(hashes[one] ^ hashes[other]) <= MAX_BITS
            one, other = one[alike], other[alike]
            apart = np.abs(colours[one].astype(np.int16) - colours[other])
            alike = (apart <= MAX_LEVELS).mean(axis=1) >= _COMPARED
            found.append(np.stack([one[alike], other[alike]], axis=1))
            step += 1
    pairs = np.concatenate([np.empty((0, 2), np.int64), *found])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    alike = np.zeros(len(hashes), bool)
    alike[pairs] = True
    return alike, pairs
