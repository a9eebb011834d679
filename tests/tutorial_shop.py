"""The shop of docs/tutorial.md: 200 photographed items, outfits and likes.

Photos and likes are those of a data set in the layout; ids, titles and prices are invented.
"""

import colorsys
import csv
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).parents[2] / "shared" / "data" / "clothing_outfits"
VARIANT = "tuples_40"
# Slot → what the shop calls its category, the letters of its ids, a word for titles,
# how many items, and the price of the cheapest.
SHELVES = {
    "top": ("Shirts", "SH", "shirt", 96, 19.9),
    "bottom": ("Trousers", "TR", "trousers", 62, 39.9),
    "shoe": ("Shoes", "SO", "shoes", 42, 59.9),
}
_SPLIT = "val"  # Few items that have many likes.
_LIKED_SHOES = 17
_HUES = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "red")


def colour_of(photo):
    """The colour of what is in the middle of a photo, as a word."""
    with Image.open(photo) as image:
        width, height = image.size
        box = (width // 3, height // 3, 2 * width // 3, 2 * height // 3)
        pixels = np.asarray(image.convert("RGB").crop(box)).reshape(-1, 3)
    hue, saturation, value = colorsys.rgb_to_hsv(*np.median(pixels, axis=0) / 255)
    if value < 0.2:
        return "black"
    if saturation < 0.15:
        return "white" if value > 0.75 else "grey"
    if value < 0.45 and 0.5 < hue < 0.75:
        return "navy"
    if value < 0.6 and hue < 0.14:
        return "brown"
    return _HUES[round(hue * (len(_HUES) - 1))]


def make_shop(folder, data=DATA):
    """Writes the shop's folder: items.csv, outfits.csv, likes.csv and photos/."""
    listed = {
        slot: (data / VARIANT / f"image_list_{slot}").read_text().splitlines()
        for slot in SHELVES
    }
    with open(data / VARIANT / f"tuples_{_SPLIT}_posi", newline="") as file:
        likes = [{k: int(v) for k, v in row.items()} for row in csv.DictReader(file)]
    sku = {slot: _choose(slot, likes, len(listed[slot])) for slot in SHELVES}
    (folder / "photos").mkdir(parents=True)
    items = []
    for slot, (category, _, word, _, price) in SHELVES.items():
        for place, (number, name) in enumerate(sku[slot].items()):
            photo = data / "images" / "291x291" / listed[slot][number]
            (folder / "photos" / f"{name}.jpg").write_bytes(photo.read_bytes())
            items.append(
                {
                    "sku": name,
                    "category": category,
                    "title": f"{colour_of(photo).title()} {word} no. {place + 1}",
                    "price": f"{price + 5 * (place % 9):.2f}",
                    "image": f"photos/{name}.jpg",
                }
            )
    for number in range(3):
        items.append(
            {
                "sku": f"GC-{number + 1}",
                "category": "Gift cards",
                "title": f"Gift card {25 * (number + 1)}",
                "price": f"{25 * (number + 1)}.00",
                "image": "",
            }
        )
    outfits, liked = {}, []
    for row in likes:
        # An outfit without its shoe is one of shirt and trousers.
        outfit = tuple(sku[slot].get(row[slot], "") for slot in SHELVES)
        if outfit[0] and outfit[1]:
            name = outfits.setdefault(outfit, f"look-{len(outfits) + 1:03}")
            liked.append({"user": f"customer-{row['user']:02}", "outfit_id": name})
    rows = [
        {"outfit_id": name, **dict(zip(SHELVES, outfit, strict=True))}
        for outfit, name in outfits.items()
    ]
    for name, table in (("items", items), ("outfits", rows), ("likes", liked)):
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return folder


def _choose(slot, likes, listed):
    """Number of an item in its list → the shop's id, for those that are sold."""
    _, letters, _, count, _ = SHELVES[slot]
    liked = sorted({row[slot] for row in likes})
    if slot == "shoe":
        liked = liked[:_LIKED_SHOES]
    never = [n for n in range(listed) if n not in {row[slot] for row in likes}]
    chosen = (liked + never)[:count]
    return {number: f"{letters}-{1000 + 7 * at}" for at, number in enumerate(chosen)}
