"""Imports IQON3000: outfits that users of a Japanese fashion site put together.

    fhn-jax import-iqon3000 IQON3000 data/iqon3000

`IQON3000` is the folder that the authors publish: USER/OUTFIT/OUTFIT.json, and beside it a
photo of each item. docs/data-sets.md says what becomes of it.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.public.importing import (
    Task,
    import_set,
    main_of,
    templates,
)
from fhn_jax.data_tools.shop.summary import Summary

from fhn_jax.errors import MissingFileError, UserError
from fhn_jax.files import read_json
from fhn_jax.program import run_program

_SLOTS = {
    "top": "トップス Tシャツ ブラウス ニット タンクトップ チュニック パーカー",
    "bottom": "スカート ロングスカート ショートパンツ ロングパンツ",
    "dress": "ワンピース",
    # A cardigan is worn over a top.
    "outerwear": "コート ジャケット ダウンジャケット カーディガン",
    "shoe": "靴 パンプス ブーツ サンダル スニーカー",
    "bag": "バッグ ハンドバッグ ショルダーバッグ トートバッグ クラッチバッグ ボストンバッグ リュック",
}
_IGNORED = """帽子 ハット キャップ ニット帽 アクセサリー ネックレス ピアス リング ブレスレット
    ブローチ ヘアアクセサリー サングラス メガネ ストール ベルト 手袋 腕時計 財布 傘 小物
    ファッション小物 レッグウェア ルームウェア ルームシューズ アンダーウェア 水着 浴衣 コスメ ネイル
    フレグランス ボディケア インテリア ステーショナリー"""
CATALOGUE = {
    "slots": {slot: words.split() for slot, words in _SLOTS.items()},
    "ignore": _IGNORED.split(),
    "templates": templates(
        [("top", "bottom"), ("dress",)], ["outerwear", "shoe", "bag"]
    ),
}
# The file of an outfit has some thousand bytes.
_MOST_BYTES = 2**20
_FILES = "OUTFIT.json"


def import_iqon3000(
    source: str | os.PathLike, root: str | os.PathLike, **options: Any
) -> Summary:
    """Makes a data root of IQON3000.

    Args:
      source: the folder with a folder for each user.
      root: the data root to make.
      **options: as of `import_catalogue`; and `catalogue`, a file with other slots.
    Raises:
      FileNotFoundError: there are no outfits.
      ValueError: too many of the files are of no use.
    """
    return import_set(_read, Path(source), Path(root), **options)


def _read(task: Task) -> Mapping[str, Any]:
    items, orders = task.work / "items.jsonl", task.work / "orders.jsonl"
    seen: set[str] = set()
    outfits: set[str] = set()
    total = 0
    with (
        open(items, "w", encoding="utf-8") as item_file,
        open(orders, "w", encoding="utf-8") as order_file,
    ):
        for user, folder in _folders(task):
            total += 1
            for item in _read_outfit(task, user, folder, outfits):
                line = {"order_id": folder.name, "item_id": item["id"], "user": user}
                order_file.write(json.dumps(line) + "\n")
                if item["id"] not in seen:
                    seen.add(item["id"])
                    item_file.write(json.dumps(item, ensure_ascii=False) + "\n")
    if not seen:
        raise MissingFileError(
            f"{task.source} has no outfit; expected USER/OUTFIT/OUTFIT.json in it, as the "
            "authors publish IQON3000 (docs/data-sets.md)"
        )
    task.left_out.check(_FILES, total, task.max_quarantine)
    return {"items": items, "orders": orders, "catalogue": task.catalogue or CATALOGUE}


def _folders(task: Task) -> Iterator[tuple[str, Path]]:
    """User and folder of each outfit, in the order of their names."""
    for user in sorted(task.source.iterdir()):
        if not user.is_dir() or user.is_symlink():
            task.left_out.add("USER", 0, user.name, "no folder of a user")
            continue
        for folder in sorted(user.iterdir()):
            if not folder.is_dir() or folder.is_symlink():
                task.left_out.add("OUTFIT", 0, folder.name, "no folder of an outfit")
            else:
                yield user.name, folder


def _read_outfit(
    task: Task, user: str, folder: Path, outfits: set[str]
) -> Iterator[dict[str, Any]]:
    """The items of an outfit, as rows of a table of items."""
    names = set(os.listdir(folder))
    path = folder / f"{folder.name}.json"

    def leave_out(reason: str) -> None:
        task.left_out.add(_FILES, 0, f"{user}/{folder.name}", reason)

    if path.name not in names:
        return leave_out("no file of the outfit")
    if path.stat().st_size > _MOST_BYTES:
        return leave_out(f"the file has more than {_MOST_BYTES:,} bytes")
    if folder.name in outfits:
        return leave_out("another user has an outfit of this id")
    outfits.add(folder.name)
    try:
        pieces = read_json(path, dict, "left out").get("items")
    except UserError:
        return leave_out("the file is no JSON object in UTF-8")
    if not isinstance(pieces, list) or not pieces:
        return leave_out("no list of items")
    for piece in pieces:
        item = str(piece.get("itemId") or "") if isinstance(piece, dict) else ""
        if not item:
            leave_out("an item without an id")
            continue
        category, _, colour = _text(piece.get("category x color")).partition("×")
        row = {
            "id": item,
            "category": category.strip(),
            "title": _text(piece.get("itemName")),
            "price": _text(piece.get("price")),
            "colour": colour.strip(),
            "brand": _text(piece.get("brands")),
        }
        photo = next((n for n in (f"{item}_m.jpg", f"{item}.jpg") if n in names), None)
        if photo:
            row["image"] = f"{user}/{folder.name}/{photo}"
        yield row


def _text(value: Any) -> str:
    """A value of the file as text; of a list the first."""
    if isinstance(value, list):
        value = value[0] if value else ""
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    main_of(import_iqon3000, "import-iqon3000", __doc__, arguments)


if __name__ == "__main__":
    run_program(main)
