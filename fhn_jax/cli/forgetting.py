"""The command that deletes a user or an item from all that a run and its data hold."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from fhn_jax import files
from fhn_jax.cli.command import DATABASE_URL, Command, Flag
from fhn_jax.cli.publishing import publish_run
from fhn_jax.cli.refreshed import RUNS, refreshed_runs, served_run
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.codes import Codes, Latents
from fhn_jax.codes.artifact import FILE as CODES
from fhn_jax.data import forgetting
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.forgotten import allow_again, note_forgotten
from fhn_jax.errors import InputError
from fhn_jax.evaluation.evaluators import load_codes
from fhn_jax.web import VISITORS

# Made of codes: of an item that is gone something would be left in them.
_MADE_OF_ITEMS = ("outfits", "composing")
# Answers to questions, with pictures; made anew by asking again.
_ANSWERS = ("search", "compose", "fit", "report", "recommendations", "ranked")


def forget(
    choice: RunChoice,
    *,
    user: str,
    item: str,
    receipt: str,
    database_url: str,
    allow: bool,
) -> None:
    """Deletes a user or an item for good, and says what was deleted where.

    A repeated call goes on with what an interrupted one left.

    Args:
      user, item: whom or what, see `ItemNames`.
      receipt: a file for what is printed.
      database_url: of another database of visitors than that of the workdir.
      allow: instead, let an import take the shop's id again, as somebody or something new.
    """
    if bool(user) == bool(item):
        raise InputError("give one of --user and --item, whom or what to delete")
    run = choice.open()
    if allow:
        _allow(run, user, item)
        return
    with (
        files.lock(run.workdir, "deleting"),
        files.lock(run.workdir / RUNS, "deleting"),
    ):
        runs = [run, *refreshed_runs(run)]
        if user:
            found = _forget_user(runs, user, database_url)
        else:
            found = _forget_item(runs, item)
        found |= _publish_anew(runs)
    about = {"user" if user else "item": user or item, "deleted": found}
    if user and "visitors" not in found:
        about["visitors"] = (
            f"not looked at: there is no {run.workdir / VISITORS}; if they are in another "
            "database, repeat the command with --database-url"
        )
    if receipt:
        files.write_json(receipt, about)
    print(json.dumps(about, indent=2))


def _allow(run: Run, user: str, item: str) -> None:
    """Lets an import take again whom or what was deleted."""
    with files.lock(run.workdir, "allowing"):
        if not allow_again(run.root, "user" if user else "item", user or item):
            raise InputError(
                f"{user or item!r} was not deleted from {run.root}; expected the shop's id "
                "of a user or an item that was"
            )
    print(f"the next import takes {user or item!r} again, as something new")


def _forget_user(runs: Sequence[Run], text: str, database_url: str) -> dict[str, int]:
    """Deletes a user from a run, those that refreshed it, and the data of all."""
    run = runs[0]
    codes, _ = load_codes(served_run(run).workdir)
    names = run.names(codes)
    if names.users is not None and text not in names.users:
        left_out = forgetting.forget_left_out(run.root, text)
        if any(left_out.values()):
            note_forgotten(run.root, "user", text)
            return left_out
    number = names.find_user(text, "--user")
    if number >= codes.num_users:
        raise InputError(
            f"--user: {text!r} is not one of the {codes.num_users:,} users of the codes"
        )
    own = names.user(number)
    root, variant = run.root, run.variant
    found = _forget_visitors(run, number, database_url, codes.identity)
    found |= forgetting.forget_likes(root, variant, number)
    catalogue = run.catalogue()
    for each in runs:
        own_codes, latents = load_codes(each.workdir)
        place = _place(run, each)
        found |= _drop(each, _ANSWERS, place) | _drop_teachers(each, place)
        if number >= own_codes.num_users:
            continue  # The user came later.
        of = _of_all(own_codes, catalogue)
        found |= _forget_rows(each, [number], of, place)
        _save(each, own_codes.without_users([number]), latents, of)
        found[place + CODES] = 1
    # Last, since it says who is meant.
    return found | forgetting.forget_user_id(root, own, number)


def _forget_visitors(
    run: Run, user: int, database_url: str, identity: str
) -> dict[str, int]:
    """Deletes the visitors who opened a user, with all that is stored of them."""
    if not database_url and not (run.workdir / VISITORS).is_file():
        return {}
    from fhn_jax.web.following import visitors_of

    state = visitors_of(run.workdir, database_url, identity)
    try:
        return {"visitors": state.forget_user(user)}
    finally:
        state.close()


def _forget_item(runs: Sequence[Run], text: str) -> dict[str, int]:
    """The same with an item."""
    run = runs[0]
    codes, _ = load_codes(served_run(run).workdir)
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
    own = names.id(category, item) or ""
    found = forgetting.forget_item(run.root, run.catalogue(), category, item, own)
    catalogue = run.catalogue()
    for each in runs:
        own_codes, latents = load_codes(each.workdir)
        place = _place(run, each)
        found |= _drop(each, (*_MADE_OF_ITEMS, *_ANSWERS), place)
        found |= _drop_teachers(each, place)
        if item >= own_codes.num_items[category]:
            continue  # The item came later.
        of = _of_all(own_codes, catalogue)
        found |= _forget_rows(each, [], of, place)
        changed = own_codes.without_item(category, item, stone)
        if latents is not None:
            latents = latents.without_item(category, item, changed)
        _save(each, changed, latents, of)
        found[place + CODES] = 1
    return found


def forget_rows_of(users: Sequence[int], runs: Sequence[Run]) -> None:
    """Deletes users from the codes and checkpoints of runs, whose data stay."""
    for run in runs:
        codes, latents = load_codes(run.workdir)
        known = [user for user in users if user < codes.num_users]
        if known:
            _drop_teachers(run, "")
            _forget_rows(run, known, None, "")
            _save(run, codes.without_users(known), latents, None)


def _of_all(codes: Codes, catalogue: Catalogue) -> Catalogue | None:
    """The data, unless they have got items or users since the codes were made."""
    counts = tuple(map(len, catalogue.names)), catalogue.num_users
    return catalogue if (codes.num_items, codes.num_users) == counts else None


def _place(run: Run, each: Run) -> str:
    """Where a run is, from the workdir of the first: "" or "refreshes/1/"."""
    below = each.workdir.relative_to(run.workdir)
    return f"{below}/" if below.parts else ""


def _publish_anew(runs: Sequence[Run]) -> dict[str, int]:
    """Publishes what is left, if anything is published, and removes older versions."""
    from fhn_jax.recommender.publishing import published

    run = runs[0]
    versions = published(run.workdir)
    if versions.current is None:
        return {}
    publish_run(served_run(run), run.workdir)
    return {versions.folder.name: versions.remove_older()}


def _save(
    run: Run, codes: Codes, latents: Latents | None, catalogue: Catalogue | None
) -> None:
    """Writes codes, of the data as they are now if they are given."""
    if catalogue is not None:
        codes = dataclasses.replace(codes, dataset_checksum=catalogue.checksum)
    if latents is None:
        codes.save(run.workdir / CODES)
    else:
        Latents(latents.items, codes.sha256()).save_with(run.workdir, codes)


def _forget_rows(
    run: Run, users: Sequence[int], catalogue: Catalogue | None, place: str
) -> dict[str, int]:
    """Zeroes the rows of users in the checkpoints, and notes the data if given."""
    folder = run.workdir / "checkpoints"
    if not folder.is_dir():
        return {}
    from fhn_jax.training.checkpoint import Checkpoints

    with Checkpoints(folder) as checkpoints:
        data = None if catalogue is None else catalogue.train_checksum
        return {place + folder.name: checkpoints.forget_users(users, data)}


def _drop_teachers(run: Run, place: str) -> dict[str, int]:
    """Removes the teacher that a run learned from, and one in its workdir.

    They know the tastes of all users, and are of no use for the data as they are now.
    """
    from fhn_jax.files.reading import sha256_file
    from fhn_jax.training import teacher

    found = {}
    own, learned_from = run.workdir / teacher.FILE, teacher.path_of(run.config)
    if own.is_file():
        own.unlink()
        found[place + own.name] = 1
    if (
        learned_from is not None
        and learned_from.is_file()
        # Another file in its place is another's.
        and sha256_file(learned_from) == run.config.train.teacher_sha256
    ):
        learned_from.unlink()
        found[str(learned_from)] = 1
    return found


def _drop(run: Run, names: tuple[str, ...], place: str) -> dict[str, int]:
    """Removes files and folders of the workdir that are made anew when asked for."""
    found = {}
    for name in names:
        paths = [p for p in (run.workdir / name, *run.workdir.glob(f"{name}.*"))]
        for path in filter(Path.exists, paths):
            found[place + path.name] = 1
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
            DATABASE_URL,
            Flag("allow", False, "Instead, let an import take the shop's id again"),
            Flag("receipt", "", "File for what was deleted where, as JSON"),
        ),
        extra="train",
    ),
)
