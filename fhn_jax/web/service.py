"""What the API and the page offer, by topic."""

import gc
import logging
import time
import weakref

from fhn_jax.data.images import CutOuts, ImageStore
from fhn_jax.errors import UnavailableError
from fhn_jax.recommender import Recommender
from fhn_jax.web import schemas
from fhn_jax.web.cards import Cards
from fhn_jax.web.impressions import Model
from fhn_jax.web.items import Items
from fhn_jax.web.outfits import Outfits
from fhn_jax.web.photos import PhotoEncoder
from fhn_jax.web.state import State
from fhn_jax.web.tastes import Tastes
from fhn_jax.web.visitors import Visitors
from fhn_jax.web.wardrobe import Wardrobe

_log = logging.getLogger("fhn_jax.web")


class Service:
    """The recommender, the state of visitors, and what visitors can do with both.

    Args:
      recommender: finds outfits.
      state: stores visitors.
      images: of the items, if there are any.
      encoder: of photos; without it none can be uploaded.
      outfits: how many are stored.
      known_users: whether anybody may open a known user.
      demo: whether the data are those of `make_demo`.
      root_path: what a proxy puts before all paths.
      version: the number of a published one; 0 of what is served as it is in the run.
    Attributes:
      identity: of the codes.
      visitors, outfits, items, wardrobe: what visitors can do, by topic.
    """

    def __init__(
        self,
        recommender: Recommender,
        state: State,
        images: ImageStore | None,
        encoder: PhotoEncoder | None = None,
        *,
        outfits: int,
        known_users: bool = True,
        demo: bool = False,
        root_path: str = "",
        version: int = 0,
    ):
        self.version, self.identity = version, recommender.codes.identity
        model = Model(version, recommender.codes.sha256())
        self._is_demo = demo
        self.recommender, self.state, self._num_outfits = recommender, state, outfits
        pictures = images.version if isinstance(images, CutOuts) else ""
        cards = Cards(recommender, root_path, pictures)
        tastes = Tastes(recommender, state)
        self.visitors = Visitors(cards, state, tastes, known_users=known_users)
        self.outfits = Outfits(cards, state, tastes, model)
        self.items = Items(cards, images)
        self.wardrobe = Wardrobe(cards, state, encoder)
        if encoder is not None:
            # Of one of several versions: when nobody is served by it any more.
            weakref.finalize(self, encoder.close)
        # What is not ready yet.
        self._missing: str | None = "search and composition are being tried"

    def catalogue(self) -> schemas.Catalogue:
        """What there is."""
        codes = self.recommender.codes
        return schemas.Catalogue(
            dataset=codes.dataset,
            slots=list(self.recommender.slots),
            templates=[list(names) for names in codes.template_names],
            categories=dict(zip(codes.categories, codes.num_items, strict=True)),
            outfits=self._num_outfits,
            bits=codes.bits,
            users=codes.num_users if self.visitors.known_users else 0,
            photos=self.wardrobe.takes_photos,
            demo=self._is_demo,
            attributes=self.outfits.attributes(),
        )

    def prepare(self) -> None:
        """Tries what the first requests would wait for, until it works.

        Where the loops of search and composition have not been compiled yet, see
        `fhn-jax compile`, this takes a minute.
        """
        while True:
            try:
                self.try_out()
            except UnavailableError as error:  # Shards of a cluster that start again.
                self._missing = str(error)
                time.sleep(error.retry_s)
                continue
            except Exception:
                self._missing = "recommending fails; the log says more"
                _log.exception("the server will not be ready")
            return

    def try_out(self) -> None:
        """Tries search, then composition, once; raises what they do."""
        self.wardrobe.is_up()  # Starts the encoder of photos.
        self.recommender.warm_up()
        self.recommender.prepare_composing()
        self._missing = None
        _keep_from_collector()

    def check(self) -> None:
        """Raises UnavailableError unless everything works.

        That is search and composition, which were tried at the start, the database and
        the encoder of photos, which are tried now.
        """
        if self._missing:
            raise UnavailableError(self._missing)
        self.recommender.index.check()
        if not self.state.is_up():
            raise UnavailableError("the database does not answer")
        if not self.wardrobe.is_up():
            raise UnavailableError("the encoder of photos is starting")

    def close(self) -> None:
        """Closes the database and stops the encoder of photos."""
        self.state.close()
        self.wardrobe.close()


def _keep_from_collector() -> None:
    """Leaves what is there now out of garbage collections, which else stop all threads.

    Among the objects of a server a full one takes a tenth of a second, and came every
    second under load. What an earlier version of the run left is collected first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
