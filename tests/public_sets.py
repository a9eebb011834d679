"""Public data sets in small, in the formats that their authors publish."""

import gzip
import json

import numpy as np
from PIL import Image

IQON = {"top": "ブラウス", "bottom": "スカート", "shoe": "パンプス", "bag": "バッグ"}


def iqon3000(folder, users=3, outfits=6, each=8, photos=True):
    """USER/OUTFIT/OUTFIT.json with a photo of each item beside it."""
    rng = np.random.default_rng(0)
    number = 0
    for user in range(users):
        for _ in range(outfits):
            number += 1
            place = folder / f"{100 + user}" / f"{9000 + number}"
            place.mkdir(parents=True)
            pieces = []
            for kind, name in enumerate(IQON.values()):
                item = str(1000 * (kind + 1) + rng.integers(each))
                pieces.append(iqon_item(item, f"{name} × ホワイト系"))
                if photos:
                    colour = tuple(int(c) for c in rng.integers(256, size=3))
                    Image.new("RGB", (32, 32), colour).save(place / f"{item}_m.jpg")
            # Two of a kind that is no slot.
            pieces += [
                iqon_item(f"{7000 + n}", "ネックレス × ゴールド系") for n in (1, 2)
            ]
            outfit = {
                **{"setId": place.name, "setUrl": "", "likeCount": 3},
                **{"user": f"{100 + user}", "items": pieces},
            }
            text = json.dumps(outfit, ensure_ascii=False)
            (place / f"{place.name}.json").write_text(text, encoding="utf-8")
    return folder


def iqon_item(item, category):
    """An item of an outfit of IQON3000."""
    return {
        **{"imgUrl": "", "price": "￥ 12,960", "category x color": category},
        **{"itemId": item, "itemName": f"item {item}", "itemUrl": "", "breadcrumb": []},
        **{"brands": ["Brand"], "categorys": [], "options": [], "colors": []},
        "expressions": [],
    }


def shift15m(folder, users=3, outfits=6, each=8, width=4096):
    """iqon_outfits.json, and features/ITEM.json.gz of each item."""
    rng = np.random.default_rng(0)
    rows, items = [], set()
    for number in range(users * outfits):
        pieces = [
            {
                **{"item_id": f"{1000 * kind + rng.integers(each)}"},
                **{"category_id1": f"{kind}", "category_id2": f"{kind}001"},
                "price": "3900",
            }
            for kind in (10, 11, 12, 13, 16, 16)
        ]
        items |= {piece["item_id"] for piece in pieces}
        user = {"user_id": f"u{number // outfits}", "fav_brand_ids": "3,4"}
        rows.append(
            {
                **{"user": user, "like_num": "51", "set_id": f"{number}"},
                **{"items": pieces, "publish_date": f"2013-05-{number + 1:02}"},
            }
        )
    (folder / "features").mkdir(parents=True)
    (folder / "iqon_outfits.json").write_text(json.dumps(rows), encoding="utf-8")
    for item in items:
        values = rng.random(width).round(4).tolist()
        write_feature(folder, item, json.dumps(values))
    return folder


def write_feature(folder, item, values):
    """The features of an item, as JSON."""
    with gzip.open(folder / "features" / f"{item}.json.gz", "wt") as file:
        file.write(values)
