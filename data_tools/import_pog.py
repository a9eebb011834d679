"""Imports POG (Alibaba iFashion): a million outfits, and who of 3.6 million clicked them.

    fhn-jax import-pog pog data/pog --min-likes 60

`pog` holds the authors' item_data.txt, outfit_data.txt and user_data.txt, and perhaps
images/ITEM.jpg. docs/data-sets.md says what becomes of it.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.public.importing import (
    Task,
    import_set,
    main_of,
    templates,
)
from fhn_jax.data_tools.shop import engine
from fhn_jax.data_tools.shop.engine import text
from fhn_jax.data_tools.shop.summary import Summary

from fhn_jax.errors import InputError
from fhn_jax.program import run_program

ITEMS, OUTFITS, USERS = FILES = ("item_data.txt", "outfit_data.txt", "user_data.txt")
MIN_LIKES = 10
TEMPLATES = templates([("top", "bottom"), ("dress",)], ["outerwear", "shoe", "bag"])
# Categories are published as numbers. What they are is in the titles, in this order:
# a "连衣裙" is a dress, any other "裙" a skirt.
_WORDS = {
    "dress": "连衣裙|连体裤|连身|礼服|旗袍|裙装",
    "bottom": "裤|裙",
    "shoe": "鞋|靴",
    "bag": "双肩包|单肩包|斜挎包|手提包|手拿包|背包|挎包|女包|男包|包包|钱包",
    "outerwear": "外套|大衣|风衣|羽绒服|棉服|棉衣|夹克|西装|皮衣|开衫|皮草",
    "top": "T恤|衬衫|衬衣|毛衣|卫衣|针织衫|打底衫|上衣|背心|吊带|雪纺衫|polo衫",
}
# A category whose titles agree less on a slot is left out.
_MOST = 0.6


def import_pog(
    source: str | os.PathLike,
    root: str | os.PathLike,
    *,
    min_likes: int = MIN_LIKES,
    **options: Any,
) -> Summary:
    """Makes a data root of POG.

    Args:
      source: the folder with the three text files.
      root: the data root to make.
      min_likes: users who clicked fewer outfits are left out.
      **options: as of `import_catalogue`; and `catalogue`, a file with other slots.
    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged, or too much of it is of no use.
    """

    def read(task: Task) -> Mapping[str, Any]:
        return _read(task, min_likes)

    return import_set(read, Path(source), Path(root), min_likes=min_likes, **options)


def _read(task: Task, min_likes: int) -> Mapping[str, Any]:
    with engine.database(task.work) as connection:
        for file, path in zip(FILES, task.find(*FILES), strict=True):
            _read_lines(connection, task, file, path)
        tables = {
            "items": "SELECT id, category, pic_url, title FROM item_data ORDER BY row",
            "orders": "SELECT outfit AS order_id, unnest(string_split(items, ';')) AS "
            "item_id FROM outfit_data ORDER BY row",
            "likes": f"""
                SELECT "user", outfit AS order_id FROM user_data WHERE "user" IN (
                  SELECT "user" FROM user_data GROUP BY "user"
                  HAVING count(DISTINCT outfit) >= {int(min_likes)}) ORDER BY row""",
        }
        shop: dict[str, Any] = {}
        for name, query in tables.items():
            shop[name] = task.work / f"{name}.parquet"
            connection.execute(f"COPY ({query}) TO {text(shop[name])} (FORMAT parquet)")
        _note_few(connection, task, shop["likes"], min_likes)
        shop["catalogue"] = task.catalogue or _catalogue(connection, shop["items"])
    return shop


def _read_lines(connection: Any, task: Task, file: str, path: Path) -> None:
    """Makes a table of a file's fields, called like the file.

    Of users' lines the long histories are left where they are.
    """
    fields, good = {
        ITEMS: (
            "f[1] AS id, f[2] AS category, f[3] AS pic_url, "
            "array_to_string(f[4:], ',') AS title",
            "len(f) >= 3 AND f[1] <> '' AND f[2] <> ''",
        ),
        OUTFITS: (
            "f[1] AS outfit, f[2] AS items",
            "len(f) = 2 AND f[1] <> '' AND f[2] <> ''",
        ),
        USERS: (
            'f[1] AS "user", f[3] AS outfit',
            "len(f) = 3 AND f[1] <> '' AND f[3] <> ''",
        ),
    }[file]
    table = path.stem
    with engine.reading(file, "text file in UTF-8"):
        connection.execute(
            f"""
            CREATE TABLE {table} AS SELECT row, {fields},
                CASE WHEN NOT coalesce({good}, false) THEN coalesce(line[:80], '') END
                AS wrong
              FROM (SELECT row_number() OVER () AS row, line, string_split(line, ',') AS f
                FROM read_csv({text(path)}, columns={{'line': 'VARCHAR'}},
                  delim={text(chr(7))}, quote='', escape='', header=false,
                  auto_detect=false))
            """
        )
    for row, line in connection.execute(
        f"SELECT row, wrong FROM {table} WHERE wrong IS NOT NULL ORDER BY row"
    ).fetchall():
        task.left_out.add(file, row, line, "the line lacks fields, or has more")
    (total,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    task.left_out.check(file, total, task.max_quarantine)
    connection.execute(f"DELETE FROM {table} WHERE wrong IS NOT NULL")


def _note_few(connection: Any, task: Task, likes: Path, min_likes: int) -> None:
    """Notes in one line the clicks of users with few, which are most of them."""
    every, users, kept, stay = connection.execute(
        f"""
        SELECT (SELECT count(*) FROM user_data),
          (SELECT count(DISTINCT "user") FROM user_data),
          count(*), count(DISTINCT "user") FROM {text(likes)}
        """
    ).fetchone()
    if not stay:
        raise InputError(
            f"{USERS}: none of {users:,} users clicked {min_likes} outfits; allow fewer "
            "with --min-likes"
        )
    if users > stay:
        what = f"{every - kept:,} clicks of {users - stay:,} users"
        reason = f"the user clicked fewer than {min_likes} outfits"
        task.left_out.add(USERS, 0, what, reason)


def _catalogue(connection: Any, items: Path) -> dict[str, Any]:
    """The slot of each category, as the titles of its items say."""
    cases = " ".join(
        f"WHEN regexp_matches(title, {text(words)}, 'i') THEN {text(slot)}"
        for slot, words in _WORDS.items()
    )
    votes = connection.execute(
        f"""
        SELECT category, slot, n / sum(n) OVER (PARTITION BY category) AS share
          FROM (SELECT category, CASE {cases} END AS slot, count(*) AS n
            FROM {text(items)} GROUP BY ALL) ORDER BY category, share DESC, slot
        """
    ).fetchall()
    slots: dict[str, list[str]] = {slot: [] for slot in _WORDS}
    ignored = {category for category, _, _ in votes}
    for category, slot, share in votes:
        if slot is not None and share >= _MOST:
            slots[slot].append(category)
            ignored.remove(category)
    if len(ignored) == len({category for category, _, _ in votes}):
        raise InputError(
            f"{ITEMS}: no category has titles that say what its items are; say with "
            "--catalogue FILE which categories belong to which slot"
        )
    order = ("top", "bottom", "dress", "outerwear", "shoe", "bag")
    return {
        "slots": {slot: slots[slot] for slot in order if slots[slot]},
        "ignore": sorted(ignored),
        "templates": [t for t in TEMPLATES if all(slots[s] for s in t["slots"])],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    main_of(import_pog, "import-pog", __doc__, arguments, min_likes=MIN_LIKES)


if __name__ == "__main__":
    run_program(main)
