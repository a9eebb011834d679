"""What is served: a run, or the current one of its published versions."""

import dataclasses
import logging
import threading
import time
from pathlib import Path
from typing import Any

from fhn_jax.data.images import shown_images
from fhn_jax.errors import (
    InputError,
    MissingFileError,
    MissingPackageError,
    UnavailableError,
)
from fhn_jax.recommender import Recommender
from fhn_jax.recommender.publishing import published, served
from fhn_jax.web import VISITORS, photos
from fhn_jax.web.engines import sqlite_path
from fhn_jax.web.service import Service
from fhn_jax.web.state import State

# Between looks for another version.
_LOOK_S = 1.0
# Between tries of one that does not work yet, which are ever rarer.
_MOST_PAUSE_S = 60.0
# What is wrong with a run or a version itself, which never changes.
_FAULTS = (InputError, MissingFileError, MissingPackageError)

_log = logging.getLogger("fhn_jax.web")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to serve, and to whom.

    Attributes:
      workdir: of the run; its codes.safetensors is served.
      root, variant: of the data: images, titles, and the outfits if there is no index.
      index: folder of an `OutfitIndex`; "" for one of the data's outfits, which is made
        in the workdir.
      ray_address: of a Ray cluster that shares `index`; "" to search in this process.
      database_url: see `State`; "" for visitors.sqlite in the workdir.
      allowed_hosts: names that the server answers to.
      keep_days: visitors who have not come for so many days are forgotten; 0: never.
      rate: requests a second of one address; 0 for any number.
      connections: of one address, and its requests in work.
      trusted_proxies: addresses and networks whose forwarding headers are believed.
      root_path: where a proxy puts the server, such as "/outfits".
      access_log: whether each request is a line of JSON on stdout.
      known_users: whether anybody may open a known user.
    """

    workdir: str
    root: str
    variant: str
    index: str = ""
    ray_address: str = ""
    database_url: str = ""
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    keep_days: int = 400
    rate: float = 20.0
    connections: int = 256
    trusted_proxies: tuple[str, ...] = ()
    root_path: str = ""
    access_log: bool = False
    known_users: bool = True


def make_service(settings: Settings, state: State | None = None) -> Service:
    """The service of a run, without a server; raises as `create_app`.

    Args:
      state: of a service that this one replaces.
    """
    run, variant = Path(settings.workdir), settings.variant
    workdir, root = served(run, settings.root)
    version = None if workdir == run else workdir
    if version is not None and settings.index:
        raise InputError(
            f"--index={settings.index}: {run} has published versions, each with an "
            "index of its own; leave it out"
        )
    if settings.ray_address and not settings.index:
        raise InputError(
            f"--ray-address={settings.ray_address} needs --index, the folder of an "
            "OutfitIndex that all nodes of the cluster can read"
        )
    try:
        recommender = Recommender.open(
            *(workdir, root, variant),
            index=settings.index or None,
            ray_address=settings.ray_address,
        )
    except _FAULTS as error:
        if version is None:
            raise
        remedy = f"or go back with `fhn-jax rollback --workdir {run}`"
        raise InputError(f"{error}; {remedy}") from error
    codes = recommender.codes
    encoder = None
    if (workdir / photos.FILE).is_file():
        encoder = photos.PhotoEncoder(workdir / photos.FILE, codes)
    if state is None:
        url = settings.database_url or database_of(run)
        state = State(url, codes.identity, keep_days=settings.keep_days)
    return Service(
        recommender,
        state,
        shown_images(root),
        encoder,
        outfits=len(recommender.index),
        known_users=settings.known_users,
        demo=(Path(root) / "DEMO").is_file(),
        root_path=settings.root_path,
        version=0 if version is None else int(version.name),
    )


def database_of(workdir: Path) -> str:
    """The URL of the visitors' database of a run, where no other is given."""
    return f"sqlite:///{(workdir / VISITORS).absolute()}"


def visitors_of(workdir: Path, url: str, identity: str) -> State:
    """The visitors of a run's servers, of a database that is there.

    Args:
      url: "" for visitors.sqlite in the workdir.
      identity: of the run's codes.
    Raises:
      MissingFileError: there is no such file.
    """
    url = url or database_of(workdir)
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        raise MissingFileError(
            f"there is no database of visitors {path}; serve the run first, or give "
            "--database-url"
        )
    return State(url, identity)


def follow(app: Any, settings: Settings, ended: threading.Event) -> None:
    """Takes up each version that becomes current, until the server ends.

    Requests in work are answered by the service that they began with, which goes when the
    last of them is done. A version that does not load is left alone, and the one before
    goes on; while something else is missing, such as the database, it is tried again.
    """
    follower, looked = _Follower(app, settings), time.monotonic()
    while not ended.wait(_LOOK_S):
        try:
            follower.look()
        except Exception as error:
            text = "the current version cannot be found: %s"
            follower.tell(error, text, str(error))
        now = time.monotonic()
        if follower.is_behind:
            app.state.metrics.behind(now - looked)
        looked = now
    follower.drop()


class _Follower:
    """Looks for the current version, and takes it up as soon as it works.

    Args:
      app: whose service is replaced.
      settings: of the server.
    Attributes:
      is_behind: whether another version than the served one is current.
    """

    def __init__(self, app: Any, settings: Settings):
        self._app, self._settings = app, settings
        self._versions = published(settings.workdir)
        self.is_behind, self._said = False, ""
        self._aim_at(0)

    def _aim_at(self, number: int) -> None:
        self._number, self._is_refused = number, False
        # Made, and waits for what it needs.
        self._new: Service | None = None
        self._due, self._pause_s = 0.0, _LOOK_S

    def look(self) -> None:
        """Looks once; raises what keeps it from telling which version is current."""
        self.is_behind = True
        current = self._versions.current
        number = 0 if current is None else int(current.name)
        if number != self._number:
            self.drop()
            self._aim_at(number)
        self.is_behind = number != self._app.state.service.version
        if current is None or not self.is_behind:
            self._said = ""
        elif not self._is_refused and time.monotonic() >= self._due:
            self._try(current)

    def _try(self, current: Path) -> None:
        try:
            if self._new is None:
                self._new = self._made()
            self._new.try_out()
            self._new.check()
        except _FAULTS as error:
            self._is_refused = True
            self.drop()
            text = "%s cannot be served; the version before goes on: %s"
            self.tell(error, text, current, str(error))
        except Exception as error:
            if not isinstance(error, UnavailableError):
                self.drop()
            self._due = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _MOST_PAUSE_S)
            text = "%s cannot be served yet, and is tried again: %s"
            self.tell(error, text, current, str(error))
        else:
            self._app.state.service, self._new = self._new, None
            self.is_behind, self._said = False, ""
            _log.info("%s is served now", current)

    def _made(self) -> Service:
        old: Service = self._app.state.service
        new = make_service(self._settings, old.state)
        if new.identity != old.identity:
            raise InputError("its items are not those that visitors judged, and more")
        return new

    def drop(self) -> None:
        """Gives up the version that waits."""
        if self._new is not None:
            self._new.wardrobe.close()
            self._new = None

    def tell(self, error: Exception, text: str, *about: object) -> None:
        """Logs a fault, if it is not the one that was logged last.

        Args:
          about: what is in the text, and keeps no service.
        """
        said = f"{self._number}: {error!r}"
        if said != self._said:
            self._said = said
            # What will probably pass needs no traceback.
            passes = isinstance(error, (UnavailableError, OSError))
            _log.error(text, *about, exc_info=None if passes else error)
