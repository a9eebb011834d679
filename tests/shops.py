"""Folders of a shop's own files."""

import csv
import json

import numpy as np

CATEGORIES = {"top": "T-Shirts", "bottom": "Jeans", "shoe": "Sneaker"}


def items(each=8, categories=CATEGORIES):
    """Rows of a table of items: so many of each category."""
    return [
        {
            "id": f"{slot[0].upper()}-{number:03}",
            "category": category,
            "title": f"{category} no. {number}",
            "price": f"{number},50",
        }
        for slot, category in categories.items()
        for number in range(each)
    ]


def wide_likes(users=4, each=6, seed=0, sizes=8, slots=tuple(CATEGORIES)):
    """Rows of a table of likes, with a column for each slot; no outfit comes twice."""
    rng = np.random.default_rng(seed)
    rows = {}
    while len(rows) < users * each:
        outfit = tuple(f"{s[0].upper()}-{rng.integers(sizes):03}" for s in slots)
        rows.setdefault(outfit, f"user {len(rows) // each}")
    return [
        {"user": user, **dict(zip(slots, outfit, strict=True))}
        for outfit, user in rows.items()
    ]


def write(folder, encoding="utf-8", **tables):
    """Writes tables, lists of rows, as NAME.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with open(folder / f"{name}.csv", "w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


EVIL = '<img src=x onerror="alert(1)">\'"&\x1b[31m'


def name_items(root, catalogue):
    """Writes items.parquet and users.parquet for data that are of no shop.

    Items are top-0, top-1, …; the second of each category has no title, the third is
    called `EVIL`. Colours are navy, red and `EVIL`, in turn. The ids of users look like
    numbers: user 0 is 100.
    """
    import duckdb

    with duckdb.connect() as database:
        database.execute(
            'create table t (category varchar, "index" int, id varchar, title varchar,'
            " price double, in_stock boolean, brand varchar, colour varchar,"
            " url varchar)"
        )
        for category, names in zip(catalogue.categories, catalogue.names, strict=True):
            for i in range(len(names)):
                own = f"{category}-{i}"
                title = {1: None, 2: EVIL}.get(i, f"Linen {category} no. {i}")
                colour = ("navy", "red", EVIL)[i % 3]
                row = [category, i, own, title, i + 0.5, i % 2 == 0, EVIL, colour]
                url = "javascript:alert(1)" if i == 2 else f"https://shop.test/{own}"
                database.execute(f"insert into t values ({'?,' * 8}?)", [*row, url])
        database.execute(f"copy t to '{root}/items.parquet' (format parquet)")
        users = f"range({catalogue.num_users}) u(i)"
        ids = f"select i::int as index, (100 + i)::varchar as id from {users}"
        database.execute(f"copy ({ids}) to '{root}/users.parquet' (format parquet)")


def quarantine(root):
    """What an import left out, in its order."""
    lines = (root / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def export(root, variant, shop):
    """Writes the tuples of a data root as a shop's tables, splits and draws included."""
    folder, slots = root / f"tuples_{variant}", None
    tables = {"likes": [], "negatives": [], "questions": []}
    endings = {"posi": "", "nega": "random", "nega_hard": "hard"}
    names = {}
    for split in ("train", "val", "test"):
        for ending, kind in endings.items():
            path = folder / f"tuples_{split}_{ending}"
            if not path.is_file():
                continue
            header, *rows = path.read_text().splitlines()
            slots = header.split(",")[1:]
            for slot in slots:
                listed = (folder / f"image_list_{slot}").read_text().splitlines()
                names.setdefault(slot, listed)
            for row in rows:
                user, *items = map(int, row.split(","))
                tables["negatives" if kind else "likes"].append(
                    {"user": user}
                    | {s: names[s][i] for s, i in zip(slots, items, strict=True)}
                    | {"split": split}
                    | ({"kind": kind} if kind else {})
                )
        path = folder / f"fill_in_blank_{split}"
        if path.is_file():
            for number, row in enumerate(path.read_text().splitlines()[1:]):
                values = np.array(row.split(","), int).reshape(-1, len(slots) + 1)
                for user, *items in values.tolist():
                    tables["questions"].append(
                        {"user": user, "question": number, "split": split}
                        | {s: names[s][i] for s, i in zip(slots, items, strict=True)}
                    )
    tables["items"] = [
        {"id": name, "category": slot, "image": f"photos/{name}"}
        for slot in slots
        for name in names[slot]
    ]
    return write(shop, **{name: rows for name, rows in tables.items() if rows})
