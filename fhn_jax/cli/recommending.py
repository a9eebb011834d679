"""Commands that recommend outfits from a run's codes."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.cli import answers, rules
from fhn_jax.cli.command import Command, Flag
from fhn_jax.cli.progress import progress, say_written
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import stored_outfits
from fhn_jax.data.item_names import ItemNames
from fhn_jax.errors import InputError
from fhn_jax.evaluation.evaluators import check_same_data

USER = Flag("user", "#0", "The user: the shop's id, else a number; #3 is number 3")
K = Flag("k", 10, "How many outfits to recommend")
FIXED = Flag("fixed", (), "Items that an outfit must have: shoe:4,top:SKU-9,top:#7")
TEMPLATES = Flag(
    "templates", (), "Shapes of outfits: top+bottom+shoe,dress+shoe; all if empty"
)
OUTFITS = Flag(
    "outfits", "", "CSV file of the outfits to search, instead of the data's"
)
INDEX = Flag("index", "", "Folder of an OutfitIndex to search, instead of the data")
RAY_ADDRESS = Flag("ray-address", "", "HOST:PORT of a Ray cluster to search on")


def search(
    choice: RunChoice,
    *,
    user: str,
    k: int,
    outfits: str,
    index: str,
    fixed: Sequence[str],
    templates: Sequence[str],
    ray_address: str,
    **given: Any,
) -> None:
    """The best stored outfits for a user: a table, search.json and search.png.

    Args:
      user: see `ItemNames.find_user`.
      k: how many.
      outfits: a CSV file of outfits; the positives of the data set if empty.
      index: folder of an `OutfitIndex` to search instead.
      fixed: items that an outfit must contain, see `answers.parse_items`.
      templates: of the outfits, see `answers.parse_templates`.
      ray_address: of the head of a Ray cluster that shares the index; if empty, this
        process searches.
      given: see `rules.Given`.
    """
    from fhn_jax.retrieval.filters import MustContain

    asked = rules.Given(**given)
    _check_one_source(index, outfits)
    if ray_address and not index:
        raise InputError(
            f"--ray-address={ray_address} needs --index, the folder of an OutfitIndex "
            "that all nodes of the cluster can read"
        )
    run = choice.open()
    folder, run = run.workdir, run.served()
    codes = run.codes()
    names = run.names(codes)
    number = names.find_user(user, "--user")
    items = answers.parse_items(fixed, names, "--fixed")
    shapes = answers.parse_templates(templates, codes)
    filters = asked.filters(names, items)
    if items:
        filters.insert(0, MustContain(items, ",".join(fixed)[:80]))
    with contextlib.ExitStack() as stack:
        if ray_address:
            from fhn_jax.integrations.cluster import connect
            from fhn_jax.integrations.ray import ClusterIndex

            stack.enter_context(connect(ray_address))
            searcher = ClusterIndex.open(index, codes)
        elif index:
            from fhn_jax.retrieval.outfit_index import OutfitIndex

            searcher = OutfitIndex.open(index, codes)
        else:
            from fhn_jax.retrieval.searcher import Searcher

            searcher = Searcher.in_memory(codes, _outfits(run, codes, names, outfits))
        if searcher.attributes is None:
            searcher.attributes = rules.attributes_of(run, codes, names)
        hits = searcher.search(
            number,
            k,
            filters=[*_without(asked, run, codes, number), *filters],
            templates=shapes,
            at_most=asked.caps(),
        )
    about = _about(names, number, asked, k=k, fixed=fixed, templates=templates)
    answers.write_outfits(
        folder,
        "search",
        about,
        codes,
        names,
        run.images(),
        items=hits.items,
        scores=hits.scores,
        numbers=hits.outfits,
        emptied_by=hits.emptied_by,
    )


def compose(
    choice: RunChoice,
    *,
    user: str,
    k: int,
    fixed: Sequence[str],
    templates: Sequence[str],
    **given: Any,
) -> None:
    """The best outfits of any items for a user: a table, compose.json and compose.png.

    Args:
      user: see `ItemNames.find_user`.
      k: how many.
      fixed: items that each outfit has, see `answers.parse_items`.
      templates: of the outfits, see `answers.parse_templates`.
      given: see `rules.Given`.
    """
    from fhn_jax.retrieval.composer import Composer

    asked = rules.Given(**given)
    run = choice.open()
    folder, run = run.workdir, run.served()
    codes = run.codes()
    names = run.names(codes)
    number = names.find_user(user, "--user")
    items = answers.parse_items(fixed, names, "--fixed")
    shapes = answers.parse_templates(templates, codes)
    filters = asked.filters(names, items)
    composer = Composer(codes, attributes=rules.attributes_of(run, codes, names))
    found = composer.compose(
        number,
        k,
        fixed=items,
        filters=[*_without(asked, run, codes, number), *filters],
        templates=shapes,
        at_most=asked.caps(),
    )
    about = _about(names, number, asked, k=k, fixed=fixed, templates=templates)
    answers.write_outfits(
        folder,
        "compose",
        about,
        codes,
        names,
        run.images(),
        items=found.items,
        scores=found.scores,
        emptied_by=found.emptied_by,
    )


def recommend_all(
    choice: RunChoice,
    *,
    k: int,
    outfits: str,
    index: str,
    out: str,
    ray_address: str,
    **given: Any,
) -> None:
    """The best stored outfits for every user, as Parquet files, by tasks of Ray.

    Args:
      k: how many for each user.
      outfits: as for `search`.
      index: folder of an `OutfitIndex` to search instead.
      out: a new folder; "recommendations" in the workdir if empty.
      ray_address: of the head of a Ray cluster; this machine alone if empty.
      given: see `rules.Given`.
    """
    from fhn_jax.integrations import recommending
    from fhn_jax.integrations.cluster import connect
    from fhn_jax.retrieval.outfit_index import OutfitIndex

    _check_one_source(index, outfits)
    run = choice.open()
    path = Path(out) if out else run.workdir / "recommendations"
    files.refuse_existing(path)
    run = run.served()
    codes = run.codes()
    names = run.names(codes)
    asked = rules.Given(**given)
    filters, seen = asked.filters(names), asked.seen(run, codes)
    with connect(ray_address), contextlib.ExitStack() as stack:
        folder = Path(index)
        if not index:
            # Beside the result, where all nodes can read it.
            outfits_beside = files.temporary_folder(path.with_name("outfits"))
            folder = stack.enter_context(outfits_beside) / "index"
            stored = _outfits(run, codes, names, outfits)
            OutfitIndex.build(folder, codes, stored)
        count = recommending.recommend_all(
            *(folder, codes, path, k),
            progress=progress("recommending"),
            own=_own_names(names),
            filters=filters,
            at_most=asked.caps(),
            seen=seen,
            attributes=rules.attributes_of(run, codes, names),
        )
    files_of = "file" if count == 1 else "files"
    print(f"{codes.num_users:,} users in {count:,} {files_of}")
    say_written(path)


def _own_names(names: ItemNames) -> Any:
    """What a shop calls users and items, for the files; None for data of no shop."""
    from fhn_jax.integrations.recommending import OwnNames

    if names.table is None:
        return None
    ids, titles = (
        [[call(c, i) for i in range(count)] for c, count in enumerate(names.counts)]
        for call in (names.id, names.title)
    )
    users: Any = names.users and names.users.names
    return OwnNames(users, ids, titles)


def _check_one_source(index: str, outfits: str) -> None:
    if index and outfits:
        raise InputError(
            f"--index={index} and --outfits={outfits}: give one of them, an index has "
            "its own outfits"
        )


def _without(asked: rules.Given, run: Run, codes: Codes, user: int) -> list[Any]:
    """What leaves out what a user likes; nothing of users who are not known."""
    if not 0 <= user < codes.num_users:
        return []
    seen = asked.seen(run, codes)
    return [] if seen is None else seen.without(user)


def _about(
    names: ItemNames,
    user: int,
    asked: rules.Given,
    *,
    k: int,
    fixed: Sequence[str],
    templates: Sequence[str],
) -> dict[str, Any]:
    """What was asked, for the answer's file."""
    about = {"user": user} | ({"user_id": names.users[user]} if names.users else {})
    about |= {"k": k, "fixed": list(fixed)} | asked.about()
    about |= {"templates": list(templates)} if templates else {}
    return about | {"score": "asymmetric"}


def _outfits(run: Run, codes: Codes, names: ItemNames, path: str):
    """The outfits of a CSV file; by default the positives of the data set.

    Of the latter, those of which the shop still has all items.
    """
    if path:
        return answers.read_outfits(Path(path), codes, names)
    catalogue = run.catalogue()
    check_same_data(codes, catalogue)
    stored = stored_outfits(catalogue)
    return stored[names.are_available(codes.slots, stored)]


COMMANDS = (
    Command(
        "search",
        "The best known outfits for a user: a table, search.json and search.png",
        search,
        (USER, K, FIXED, TEMPLATES, OUTFITS, INDEX, RAY_ADDRESS, *rules.FLAGS),
        extra="retrieval",
    ),
    Command(
        "compose",
        "The best outfits of any items for a user: a table, compose.json and .png",
        compose,
        (USER, K, FIXED, TEMPLATES, *rules.FLAGS),
        extra="retrieval",
    ),
    Command(
        "recommend-all",
        "The best known outfits for every user, as Parquet files",
        recommend_all,
        (
            *(K, OUTFITS, INDEX, RAY_ADDRESS),
            Flag("out", "", "New folder; recommendations in the workdir if empty"),
            *rules.FLAGS,
        ),
        extra="cluster",
    ),
)
