"""What visitors of a run's site like, as likes of its data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fhn_jax.cli.forgetting import forget_rows_of
from fhn_jax.cli.refreshed import refreshed_runs, served_run
from fhn_jax.cli.run import Run
from fhn_jax.data.forgetting import tombstone
from fhn_jax.data.item_table import VISITORS_FILE
from fhn_jax.errors import MissingFileError


def take_likes_of_visitors(run: Run, database_url: str) -> Mapping[str, int]:
    """Makes the likes of visitors in the data those of the visitors' database.

    Who opened a known user adds to the likes of that user. Who has deleted their data is
    no longer in the data, and there is nothing of them in codes and checkpoints.

    Args:
      run: that is refreshed.
      database_url: of visitors; "" for SQLite in the workdir.
    Returns:
      what → how many, see `take_visitors`.
    Raises:
      InputError: the database is of other codes.
      MissingFileError: there is none where one is said to be, or the data have likes
        of visitors.
    """
    # In a checkout it lies beside the package, where pyright does not look.
    from fhn_jax.data_tools.shop.visitors import (  # pyright: ignore[reportMissingImports]
        VisitorLikes,
        take_visitors,
    )

    events = _events(run, database_url)
    slots = len(run.catalogue().slots)
    likes = VisitorLikes(
        [name for name, _ in events],
        np.array([e.items for _, e in events], np.int32).reshape(len(events), slots),
        np.array([e.liked for _, e in events], bool),
        np.array([e.at.timestamp() for _, e in events], np.float64),
    )

    def forget(users: Sequence[int]) -> None:
        forget_rows_of(users, [run, *refreshed_runs(run)])

    return take_visitors(run.root, likes, forget)


def _events(run: Run, database_url: str) -> list[tuple[str, Any]]:
    """What visitors judged, each with the name of the user it counts for."""
    from fhn_jax.web.following import visitors_of

    codes = served_run(run).codes()
    users = run.names(codes)
    try:
        state = visitors_of(run.workdir, database_url, codes.identity)
    except MissingFileError as error:
        if not database_url and not (run.root / VISITORS_FILE).is_file():
            return []
        raise MissingFileError(
            f"{error}; what visitors like in {run.root} would all be taken as deleted"
        ) from None
    try:
        events = state.events()
    finally:
        state.close()
    found = []
    for event in events:
        name = event.visitor if event.user is None else users.user(event.user)
        # Who is deleted for good gets no likes any more.
        if event.user is None or name != tombstone("user", event.user):
            found.append((name, event))
    return found
