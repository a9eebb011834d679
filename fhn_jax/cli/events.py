"""The commands of what visitors were shown and judged: to files, and what they tell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax.cli.command import DATABASE_URL, Command, Flag
from fhn_jax.cli.progress import say_written
from fhn_jax.cli.refreshed import served_run
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.codes import Codes
from fhn_jax.codes.artifact import FILE as CODES
from fhn_jax.data.forgetting import tombstone
from fhn_jax.data.item_names import ItemNames
from fhn_jax.data.item_table import read_table, write_table
from fhn_jax.errors import InputError, MissingFileError

LIKES, JUDGEMENTS, IMPRESSIONS = (
    f"{name}.parquet" for name in ("likes", "judgements", "impressions")
)
_WHO = {"visitor": str, "user": str}
_ASKED = {"k": int, "explore": float, "page": int, "free": bool}
_REMEDY = "write the events of this catalogue anew with `fhn-jax export-events`"


def export_events(choice: RunChoice, *, folder: str, database_url: str) -> None:
    """Writes what visitors were shown and judged, as three tables for their owner alone.

    Args:
      choice: the run whose visitors they are.
      folder: to write them to.
      database_url: of another database than that of the workdir.
    """
    from fhn_jax.recommender.suggestions import slot_names
    from fhn_jax.web.following import visitors_of

    to, run = _given(folder), choice.open()
    if to.exists() and not to.is_dir():
        raise InputError(f"--folder={to} is a file; expected a folder, new or not")
    codes = served_run(run).codes()
    state = visitors_of(run.workdir, database_url, codes.identity)
    try:
        judged, pages = state.events(), state.impressions.all()
    finally:
        state.close()
    slots, names = dict.fromkeys(slot_names(codes), str), run.names(codes)

    def stays(user: int | None) -> bool:
        return user is None or names.user(user) != tombstone("user", user)

    # Who is deleted for good leaves nothing that could become a like again.
    judged = [one for one in judged if stays(one.user)]
    pages = [one for one in pages if stays(one.user)]

    def items(one: Any) -> list[str | None]:
        places = zip(codes.slots, one.items, strict=True)
        return [_called(names, category, item) for category, item in places]

    def who(one: Any) -> tuple[str, str | None]:
        return one.visitor, None if one.user is None else names.user(one.user)

    def write(name: str, kinds: dict[str, type], rows: Sequence[Sequence[Any]]) -> None:
        write_table(to / name, kinds, rows)
        say_written(to / name)

    to.mkdir(parents=True, exist_ok=True)
    # An item alone is no outfit of any template.
    outfits = [each for each in judged if sum(item >= 0 for item in each.items) > 1]
    write(
        LIKES,
        {"user": str, **slots, "value": int, "time": float},
        [
            (own or visitor, *items(one), 1 if one.liked else -1, one.at.timestamp())
            for one in outfits
            for visitor, own in [who(one)]
        ],
    )
    write(
        JUDGEMENTS,
        {**_WHO, **slots, "liked": bool, "time": float},
        [(*who(one), *items(one), one.liked, one.at.timestamp()) for one in judged],
    )
    places = [
        (
            *(number, *who(page), page.at.timestamp(), *page.model, page.way),
            *(page.asked.get(name) for name in _ASKED),
            *(position, one.score, one.explores, *items(one), liked[position]),
        )
        for number, (page, liked) in enumerate(
            zip(pages, _verdicts(pages, judged), strict=True)
        )
        for position, one in enumerate(page.outfits)
        # A visitor's own photo is no item of the catalogue.
        if min(one.items) >= -1
    ]
    about = {"impression": int, **_WHO, "time": float, "version": int, "codes": str}
    place = {"position": int, "score": float, "explored": bool, **slots, "liked": bool}
    write(IMPRESSIONS, {**about, "way": str, **_ASKED, **place}, places)
    print(
        f"{len(outfits):,} likes and dislikes of outfits and {len(judged) - len(outfits):,} "
        f"of single items; {len(places):,} outfits shown on {len(pages):,} pages"
    )


def _called(names: ItemNames, category: int, item: int) -> str | None:
    """The shop's id of an item, else the name of its image; None for none."""
    if item < 0:
        return None
    own = names.id(category, item)
    return names.label(category, item) if own is None else own


def _verdicts(pages: Sequence[Any], judged: Sequence[Any]) -> list[list[bool | None]]:
    """Whether each outfit of each page was liked; None where it was not judged.

    A judgement belongs to the last page before it that showed the visitor these items; of
    several that belong to a page, the last counts.
    """
    found: list[list[bool | None]] = [[None] * len(page.outfits) for page in pages]
    shown: dict[tuple[str, tuple[int, ...]], tuple[int, int]] = {}
    moments = [(page.at, 0, number) for number, page in enumerate(pages)]
    moments += [(one.at, 1, number) for number, one in enumerate(judged)]
    for _, is_judgement, number in sorted(moments):
        if is_judgement:
            one = judged[number]
            page, position = shown.get((one.visitor, one.items), (None, 0))
            if page is not None:
                found[page][position] = one.liked
        else:
            for position, outfit in enumerate(pages[number].outfits):
                shown[pages[number].visitor, outfit.items] = number, position
    return found


def off_policy(choice: RunChoice, *, folder: str, shown_by: str) -> None:
    """Estimates how much would be liked of what a run would have shown.

    Args:
      choice: the run.
      folder: that `export_events` wrote.
      shown_by: workdir of the run whose versions ranked the pages; the same if empty.
    """
    from fhn_jax.evaluation import off_policy as evaluation
    from fhn_jax.recommender import Recommender
    from fhn_jax.recommender.logged import check_comparable

    run = choice.open()
    site = RunChoice(workdir=Path(shown_by)).open() if shown_by else run
    new = Recommender.open(run.workdir, run.root, run.variant)
    pages = _read_pages(_given(folder), new)
    rankers = _rankers(site, {page.codes for page in pages})
    for ranker in rankers.values():
        check_comparable(ranker.codes, new.codes)
    usable = [page for page in pages if page.codes in rankers]
    made = [(page, page.propensities(rankers[page.codes])) for page in usable]
    kept = [(page, chances) for page, chances in made if chances is not None]
    print(
        f"{len(pages):,} pages were recommended without conditions and judged; "
        f"{len(pages) - len(usable):,} of versions that are gone and "
        f"{len(made) - len(kept):,} that cannot be made again are left out"
    )
    numbers = {page.visitor: number for number, page in enumerate(pages)}
    rows = [
        (numbers[page.visitor], *place)
        for page, chances in kept
        for place in zip(page.liked, chances, page.chosen_by(new), strict=True)
    ]
    visitors, liked, chances, chosen = np.array(rows, np.float64).reshape(-1, 4).T
    found = evaluation.off_policy(
        visitors, liked, chances, chosen > 0, sum(page.k for page, _ in kept)
    )
    print(found.text)


def _rankers(site: Run, wanted: set[str]) -> dict[str, Any]:
    """By the checksum of their codes, the recommenders of a run and its versions."""
    from fhn_jax.recommender import Recommender
    from fhn_jax.recommender.publishing import published

    versions = published(site.workdir)
    places = [(versions.folder / str(number),) * 2 for number in versions.numbers]
    found = {}
    for workdir, root in [*places, (site.workdir, site.root)]:
        if (workdir / CODES).is_file():
            sha256 = Codes.load(workdir / CODES).sha256()
            if sha256 in wanted and sha256 not in found:
                found[sha256] = Recommender.open(workdir, root, site.variant)
    return found


def _read_pages(folder: Path, new: Any) -> list[Any]:
    """The recommended pages of which something was judged, in order."""
    from fhn_jax.recommender import Judged
    from fhn_jax.recommender.logged import LoggedPage

    about = ("visitor", "user", "time", "liked", *new.slots)
    shown = ("impression", "codes", "way", "k", "explore", "page", "free")
    judged, judged_items = _read(folder / JUDGEMENTS, about, new)
    table, items = _read(folder / IMPRESSIONS, (*about, *shown), new)
    mine: dict[str, list[int]] = {}
    for row, visitor in enumerate(judged["visitor"]):
        mine.setdefault(visitor, []).append(row)
    likes = np.array([np.nan if each is None else each for each in table["liked"]])
    starts = np.flatnonzero(np.diff(table["impression"], prepend=-1))
    pages = []
    for first, end in zip(starts, [*starts[1:], len(items)], strict=True):
        one = {name: column[first] for name, column in table.items()}
        liked = likes[first:end].astype(np.float64)
        if one["way"] != "recommend" or not one["free"] or np.isnan(liked).all():
            continue
        before: dict[tuple[int, ...], int] = {}
        for row in reversed(mine.get(one["visitor"], [])):
            if judged["time"][row] < one["time"]:
                before.setdefault(tuple(judged_items[row].tolist()), row)
        rows, user, where = [*before.values()], one["user"], f"row {first + 1}"
        pages.append(
            LoggedPage(
                visitor=one["visitor"],
                user=None if user is None else new.names.find_user(user, where),
                codes=one["codes"],
                **{"k": int(one["k"]), "page": int(one["page"])},
                explore=float(one["explore"]),
                judged=Judged(judged_items[rows], judged["liked"][rows].astype(bool)),
                items=items[first:end],
                liked=liked,
            )
        )
    return pages


def _read(
    path: Path, required: Sequence[str], new: Any
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A table of events, and the numbers of the items in each row."""
    if not path.is_file():
        raise MissingFileError(f"there is no {path}; {_REMEDY}")
    table = read_table(path, required, _REMEDY)
    items = np.full((len(table["visitor"]), len(new.slots)), -1, np.int32)
    for slot, name in enumerate(new.slots):
        category = new.codes.categories[new.codes.slots[slot]]
        known: dict[str, int] = {}
        for row, text in enumerate(table[name]):
            if text is not None and text not in known:
                try:
                    known[text] = new.names.find(
                        category, text, f"{path}, row {row + 1}"
                    )
                except InputError as error:
                    raise InputError(
                        f"{error}; are the events of another catalogue? If so, {_REMEDY}"
                    ) from None
            if text is not None:
                items[row, slot] = known[text]
    return table, items


def _given(folder: str) -> Path:
    if not folder:
        raise InputError("--folder: expected the folder of the events")
    return Path(folder)


_FOLDER = Flag("folder", "", "Of the tables of events")

OFF_POLICY = Command(
    "off-policy",
    "Estimate from exported events how much would be liked of what a run would show",
    off_policy,
    (
        _FOLDER,
        Flag("shown-by", "", "Workdir whose versions ranked them; the run's own"),
    ),
    extra="retrieval,shop",
)
COMMANDS = (
    Command(
        "export-events",
        "Write what visitors were shown and judged, as tables in Parquet",
        export_events,
        (
            _FOLDER,
            DATABASE_URL,
        ),
        extra="web,shop",
    ),
)
