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


POG = {"top": "白色 T恤 女", "bottom": "牛仔裤", "shoe": "小白鞋", "other": "耳环"}


def pog(folder, users=4, outfits=30, clicks=8, each=8):
    """item_data.txt, outfit_data.txt and user_data.txt."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    items = [
        f"i{kind}{number},c{kind},//example.com/{kind}.jpg,{title}, {number}"
        for kind, title in enumerate(POG.values())
        for number in range(each)
    ]
    sets = [
        f"o{number}," + ";".join(f"i{kind}{rng.integers(each)}" for kind in range(4))
        for number in range(outfits)
    ]
    rows = [
        f"u{user},i00;i11,o{outfit}"
        for user in range(users)
        for outfit in rng.choice(outfits, clicks, replace=False)
    ]
    for name, lines in (("item", items), ("outfit", sets), ("user", rows)):
        (folder / f"{name}_data.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def polyvore_outfits(folder, train=40, test=8, each=12):
    """The metadata of the items, and the splits and tasks of one version."""
    rng = np.random.default_rng(0)
    kinds = ("tops", "bottoms", "shoes", "jewellery")
    metadata = {
        f"{1000 * kind + number}": {
            **{"url_name": f"a {category}", "description": "", "catgeories": ["Women"]},
            **{"title": "" if number else f"{category} 0", "related": []},
            **{"category_id": f"{kind}", "semantic_category": category},
        }
        for kind, category in enumerate(kinds)
        for number in range(each)
    }
    place = folder / "nondisjoint"
    place.mkdir(parents=True)
    _write_json(folder / "polyvore_item_metadata.json", metadata)
    own = 200_000
    for split, count in (("train", train), ("valid", test), ("test", test)):
        outfits, questions, lines = [], [], []
        for at in range(count):
            own += 1
            # Two pieces of jewellery; bottoms that differ from those of the next.
            items = [str(1000 * kind + rng.integers(each)) for kind in (0, 1, 2, 3, 3)]
            items[1] = str(1000 + at % each)
            pieces = [{"item_id": i, "index": n} for n, i in enumerate(items, 1)]
            outfits.append({"items": pieces, "set_id": f"{own}"})
        names = [f"{o['set_id']}_{n}" for o in outfits for n in range(1, 6)]
        for at in range(count):
            of_it = names[5 * at : 5 * at + 5]
            others = names[5 * at + 5 :] + names[: 5 * at]
            lines.append(f"1 {' '.join(of_it)}")
            shuffled = [others[5 * rng.integers(count - 1) + n] for n in range(5)]
            lines.append(f"0 {' '.join(shuffled)}")
            questions.append(
                {
                    **{"question": [of_it[0], *of_it[2:]], "blank_position": 2},
                    "answers": [others[1], others[6], of_it[1], others[11]],
                }
            )
        _write_json(place / f"{split}.json", outfits)
        _write_json(place / f"fill_in_blank_{split}.json", questions)
        (place / f"compatibility_{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def _write_json(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
