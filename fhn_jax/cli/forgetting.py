"""The command that deletes a user or an item from all that a run and its data hold."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.cli.command import Command, Flag
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.codes import Latents
from fhn_jax.codes.artifact import FILE as CODES
from fhn_jax.data import forgetting
from fhn_jax.errors import InputError
from fhn_jax.evaluation.evaluators import load_codes

# Made of codes: of an item that is gone something would be left in them.
_MADE_OF_ITEMS = ("outfits", "composing")
# Answers to questions, with pictures; made anew by asking again.
_ANSWERS = ("search", "compose", "fit", "report", "recommendations", "ranked")


def forget(choice: RunChoice, *, user: str, item: str, receipt: str) -> None:
    """Deletes a user or an item for good, and says what was deleted where.

    A repeated call goes on with what an interrupted one left.

    Args:
      user, item: whom or what, see `ItemNames`.
      receipt: a file for what is printed.
    """
    if bool(user) == bool(item):
        raise InputError("give one of --user and --item, whom or what to delete")
    run = choice.open()
    with files.lock(run.workdir, "deleting"):
        found = _forget_user(run, user) if user else _forget_item(run, item)
    about = {"user" if user else "item": user or item, "deleted": found}
    if receipt:
        files.write_json(receipt, about)
    print(json.dumps(about, indent=2))


def _forget_user(run: Run, text: str) -> dict[str, int]:
    codes, latents = load_codes(run.workdir)
    names = run.names(codes)
    number = names.find_user(text, "--user")
    if number >= codes.num_users:
        raise InputError(
            f"--user: {text!r} is not one of the {codes.num_users:,} users of the codes"
        )
    own = names.user(number)
    root, variant = run.root, run.variant
    found = forgetting.forget_likes(root, variant, number)
    catalogue = run.catalogue()
    found |= _forget_rows(run, number, catalogue.train_checksum)
    changed = codes.without_user(number)
    _save(run, changed, latents, catalogue)
    found[CODES] = 1
    found |= _drop(run, _ANSWERS)
    # Last, since it says who is meant.
    return found | forgetting.forget_user_id(root, own, number)


def _forget_item(run: Run, text: str) -> dict[str, int]:
    codes, latents = load_codes(run.workdir)
    names = run.names(codes)
    place = names.item(text)
    if place is None:
        category, _, own = text.partition(":")
        if category not in codes.categories:
            raise InputError(
                f"--item: {text!r} is no item; expected the shop's id, or one such as "
                f"{codes.categories[0]}:#4{names.nearest_item(text)}"
            )
        place = codes.categories.index(category), names.find(category, own, "--item")
    category, item = place
    stone = forgetting.tombstone(codes.categories[category], item)
    changed = codes.without_item(category, item, stone)
    catalogue = run.catalogue()
    found: dict[str, int] = {CODES: 1}
    found |= _drop(run, (*_MADE_OF_ITEMS, *_ANSWERS))
    own = names.id(category, item) or ""
    found |= forgetting.forget_item(run.root, catalogue, category, item, own)
    found |= _forget_rows(run, None, run.catalogue().train_checksum)
    if latents is not None:
        latents = latents.without_item(category, item, changed)
    _save(run, changed, latents, run.catalogue())
    return found


def _save(run: Run, codes: Any, latents: Latents | None, catalogue: Any) -> None:
    """Writes codes of the data as they are now."""
    codes = dataclasses.replace(codes, dataset_checksum=catalogue.checksum)
    if latents is None:
        codes.save(run.workdir / CODES)
    else:
        Latents(latents.items, codes.sha256()).save_with(run.workdir, codes)


def _forget_rows(run: Run, user: int | None, data: str) -> dict[str, int]:
    """Zeroes the rows of a user in the checkpoints, and notes the data without."""
    folder = run.workdir / "checkpoints"
    if not folder.is_dir():
        return {}
    from fhn_jax.training.checkpoint import Checkpoints

    with Checkpoints(folder) as checkpoints:
        return {folder.name: checkpoints.forget_user(user, data)}


def _drop(run: Run, names: tuple[str, ...]) -> dict[str, int]:
    """Removes files and folders of the workdir that are made anew when asked for."""
    found = {}
    for name in names:
        paths = [p for p in (run.workdir / name, *run.workdir.glob(f"{name}.*"))]
        for path in filter(Path.exists, paths):
            found[path.name] = 1
            if path.is_dir():
                shutil.rmtree(path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
    return found


COMMANDS = (
    Command(
        "forget",
        "Delete a user or an item from a run and its data, for good",
        forget,
        (
            Flag("user", "", "The user: the shop's id, or #3 for number 3"),
            Flag("item", "", "The item: the shop's id, or top:#4 for number 4"),
            Flag("receipt", "", "File for what was deleted where, as JSON"),
        ),
        extra="train",
    ),
)
