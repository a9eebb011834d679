"""New users by minimising the BPR loss over their codes alone, in milliseconds."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from fhn_jax.codes import Codes, blocks, by_slots, outfit_scores
from fhn_jax.codes.scoring import SCALE
from fhn_jax.data.catalogue import Outfits
from fhn_jax.errors import InputError
from fhn_jax.new_users.clicks import check_both, per_user
from fhn_jax.new_users.learner import Learner, NewUsers
from fhn_jax.new_users.posterior import Posterior, prior_of

# Users taken at a time: their codes then fit the processor's cache.
_CHUNK = 64
_MAX_NEWTON_STEPS = 20
_MAX_HALVINGS = 20
# A Newton step is done when it lowers no user's loss by more than this.
_TOLERANCE = 1e-4
# Mean magnitude that bits can follow. A real code that is larger, as that of a user of
# many clicks, is shrunk first: bits have no room for its largest entries.
_ROOM = 0.7
# Likes that a known user is taken to have, for how surely their code is known.
KNOWN_LIKES = 30


def fit_users(
    codes: Codes,
    likes: Sequence[Any],
    dislikes: Sequence[Any] = (),
    **options: Any,
) -> NewUsers:
    """Learns users from the outfits that each likes and dislikes, see `BprFit`.

    Args:
      codes: of items and known users.
      likes: for each user the liked outfits, each an item id for every slot; -1 for a
        slot that does not count, so that a single item can be liked.
      dislikes: likewise; shorter where the last users dislike nothing.
      options: keyword arguments of `BprFit`.
    Returns:
      the users; `into(codes)` puts them in place of the known ones, and a row of their
      `latents` is a user to search and compose for.
    Raises:
      ValueError: outfits of another number of slots, unknown items, or an outfit that a
        user both likes and dislikes; or as `BprFit`.

    >>> rng = np.random.default_rng(0)
    >>> codes = Codes.from_embeddings(
    ...     {name: rng.normal(size=(50, 64)) for name in ("top", "shoe")}
    ... )
    >>> users = fit_users(codes, likes=[[(3, 4), (3, 5)], [(7, -1)]], dislikes=[[(8, 9)]])
    >>> users
    NewUsers(2 users of 64 bits, 3 likes, 1 dislikes)
    >>> users.into(codes)
    Codes(64 bits, visual, 100 items in top/shoe, 2 users)
    """
    return BprFit(codes, **options).fit(
        per_user(codes, "likes", likes),
        per_user(codes, "dislikes", dislikes),
        max(len(likes), len(dislikes)),
    )


class BprFit(Learner):
    """Bayesian personalised ranking over the user's code alone, items frozen.

    The score of an outfit is linear in the user's code u: φ(O)·u + c(O). The code
    minimises, over the user's likes l,
    Σ_l [½ mean over dislikes n + ½ mean over sampled outfits r] softplus(s_n − s_l)
    + strength/2 · |u − μ|² in the metric Σ⁻¹: a convex problem with one minimum. With
    no dislikes, sampled outfits have all the weight; with dislikes alone, sampled
    outfits rank above them; with neither, u = μ. A like is compared with sampled outfits
    of its own template, or with all if it is of none.

    The prior's mean μ and covariance Σ are those of the known users, the covariance
    drawn towards a multiple of the identity. Only the directions in which outfits
    differ most under the prior are searched (at most `rank`), by Newton's method,
    many users at once.

    The binary code is the one whose scores differ least from those of u, over the
    outfits of the catalogue: starting from the sign, bits are flipped one by one, each
    time the one that helps most. A u too large for bits to follow is shrunk for that.

    Args:
      codes: of items and known users.
      strength: of the prior, above 0.
      shrinkage: weight of the identity in the covariance, above 0 and at most 1.
      samples: number of outfits that likes are compared with beside the dislikes.
      rank: directions that are searched.
      seed: of the samples.
    Attributes:
      sampled: int [r, s], the items of these outfits, drawn from all items.
    Raises:
      ValueError: an option out of range; codes whose scores do not depend on users.
    Source: Rendle et al. 2009, "BPR"; the defaults were chosen on the validation split
      of clothing_outfits.
    """

    def __init__(
        self,
        codes: Codes,
        *,
        strength: float = 0.06,
        shrinkage: float = 0.2,
        samples: int = 128,
        rank: int = 32,
        seed: int = 0,
    ):
        super().__init__(codes)
        if not 0 < strength < np.inf:
            raise InputError(f"strength={strength}: expected above 0")
        if not 0 < shrinkage <= 1:
            raise InputError(f"shrinkage={shrinkage}: expected above 0, at most 1")
        if samples < 1 or rank < 1:
            raise InputError(f"samples={samples}, rank={rank}: expected at least 1")
        if codes.zero_user_term and not codes.zero_item_term:
            raise InputError(
                "the codes were trained with zero_user_term: their scores are the "
                "same for all users, there is nothing to fit"
            )
        self.strength = strength
        rng = np.random.default_rng(seed)
        count = max(2048, samples)
        items = np.stack(
            [rng.integers(codes.num_items[c], size=count) for c in codes.slots], axis=1
        )
        # The templates in turn, so that the first samples have all of them alike.
        for number, slots in enumerate(codes.templates):
            absent = np.setdiff1d(np.arange(len(codes.slots)), slots)
            items[number :: len(codes.templates), absent] = -1
        features = np.empty((count, codes.bits), np.float32)
        for rows, block, _ in self._features(items):
            features[rows] = block
        centred = features - features.mean(axis=0)
        self._covariance = (centred.T @ centred / count).astype(np.float32)
        self._mean, prior = prior_of(codes, shrinkage)
        # Whitened by the prior, and turned so that the first directions matter most.
        directions = np.linalg.eigh(prior.T @ self._covariance @ prior)[1]
        self._basis = prior @ directions[:, ::-1][:, :rank]
        self.sampled = items[:samples]
        self._sampled_features = features[:samples]
        self._samples = self._project(self.sampled, self._mean)

    def latents(
        self,
        likes: Outfits,
        dislikes: Outfits,
        num_users: int,
        around: Float32[np.ndarray, "u d"] | None = None,
    ) -> Float32[np.ndarray, "u d"]:
        """The real codes of `fit`, without the search for bits that follow them.

        Args:
          around: for users who are known already their own codes, which then take the
            place of the mean μ of the prior.
        Raises:
          ValueError: as `fit`.
        """
        check_both(self.codes, likes, dislikes, num_users)
        return self._search(likes, dislikes, num_users, around)

    def posterior(
        self,
        likes: Outfits,
        dislikes: Outfits,
        around: Float32[np.ndarray, " d"] | None = None,
    ) -> Posterior:
        """What is known of the code of one user, and how surely.

        The Laplace approximation: a Gaussian around the code u of `latents`, with the
        inverse of the loss's Hessian H there as its covariance. The loss is in units of
        `strength`, so that without clicks the Gaussian is the prior, N(μ, Σ): the
        covariance is strength · H⁻¹, in the searched directions; in the others outfits
        hardly differ, and nothing is drawn.

        A user who is known already is taken for one who has liked `KNOWN_LIKES` outfits
        like the sampled ones: codes do not say how many they were trained on.

        Args:
          likes, dislikes: of user 0.
          around: as `latents`, of one user.
        Raises:
          ValueError: as `fit`.
        Source: Chapelle and Li 2011, "An Empirical Evaluation of Thompson Sampling",
          algorithm 3, with the full Hessian; Bissiri et al. 2016, "A General Framework
          for Updating Belief Distributions", for a loss in place of a likelihood.
        """
        check_both(self.codes, likes, dislikes, 1)
        means = None if around is None else around[None]
        prior = self.strength * np.eye(self._basis.shape[1], dtype=np.float32)
        hessians = prior[None]
        latents = self._search(likes, dislikes, 1, means, hessians)
        hessian = hessians[0].astype(np.float64)
        if around is not None:
            # The second derivative of a pair is at most ¼ of the square of a difference,
            # whose mean is twice the covariance.
            features = self._samples.features.astype(np.float64)
            hessian += KNOWN_LIKES / 2 * np.cov(features.T, bias=True)
        values, vectors = np.linalg.eigh(hessian)
        root = vectors * np.sqrt(self.strength / values)
        return Posterior(latents[0], self._basis, root.astype(np.float32))

    def _learn(self, likes, dislikes, num_users):
        latents = self._search(likes, dislikes, num_users)
        return latents, _nearest_bits(self.codes, latents, self._covariance)

    def _search(self, likes, dislikes, num_users, means=None, hessians=None):
        """The codes; the Hessians of the loss of users with clicks go to `hessians`."""
        latents = np.tile(self._mean, (num_users, 1)) if means is None else means.copy()
        # One table of outfits, likes first; a user's are a range of `order`.
        users = np.concatenate([likes.users, dislikes.users + num_users])
        order = np.argsort(users, kind="stable")
        counts = np.bincount(users, minlength=2 * num_users).reshape(2, num_users)
        starts = np.cumsum(counts).reshape(2, num_users) - counts
        items = np.concatenate([likes.items, dislikes.items])[order]
        own = self._mean if means is None else means[users[order] % num_users]
        outfits = self._project(items, own)
        # Users with equally many clicks share a chunk: less padding.
        clicked = np.lexsort(counts)
        clicked = clicked[counts.sum(axis=0)[clicked] > 0]
        for start in range(0, len(clicked), _CHUNK):
            chunk = clicked[start : start + _CHUNK]
            # Dislikes alone: sampled outfits above them is the same problem with all
            # margins negated.
            turned = counts[0, chunk] == 0
            above = outfits.of(
                np.where(turned, starts[1, chunk], starts[0, chunk]),
                np.where(turned, counts[1, chunk], counts[0, chunk]),
            )
            below = outfits.of(starts[1, chunk], np.where(turned, 0, counts[1, chunk]))
            found, curvature = _newton(
                above,
                below,
                self._samples,
                self._samples.terms
                + (latents[chunk] - self._mean) @ self._sampled_features.T,
                np.where(turned, -1, 1).astype(np.float32),
                self.strength,
            )
            latents[chunk] += found @ self._basis.T
            if hessians is not None:
                hessians[chunk] = curvature
        return latents

    def _project(
        self, items: Int[np.ndarray, "n s"], mean: Float32[np.ndarray, "..."]
    ) -> "_Projected":
        """Outfits as the search sees them.

        Args:
          mean: the user code at w = 0, [d], or [n, d] for one an outfit.
        """
        n = len(items)
        projected = _Projected(
            np.empty((n, self._basis.shape[1]), np.float32),
            np.empty(n, np.float32),
            np.ones(n, np.float32),
            np.full(n, -1),
        )
        for slots, rows in by_slots(items):
            if slots in self.codes.templates:
                projected.templates[rows] = self.codes.templates.index(slots)
        for rows, features, terms in self._features(items):
            projected.features[rows] = features @ self._basis
            own = mean if mean.ndim == 1 else mean[rows]
            projected.terms[rows] = terms + (features * own).sum(axis=1)
        return projected

    def _features(
        self, items: Int[np.ndarray, "n s"]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """φ and c of outfits, a block at a time: the score for a user u is φ·u + c.

        Yields:
          rows of the block; φ, float32 [n, d]; c, float64 [n].
        """
        codes = self.codes
        for rows, form, gathered in blocks(codes, items):
            factor = SCALE * form.user_weight * codes.alpha / form.bits
            weights = factor / form.modalities * codes.lambda_user
            weights = weights.astype(np.float32) / len(form.slots)
            # Without a user, what is left of the score.
            terms = outfit_scores(
                form,
                np.zeros((len(rows), codes.bits), np.int8),
                gathered,
                codes.lambda_user,
                codes.lambda_item,
            )
            yield rows, sum(map(sum, gathered)) * weights, terms


@dataclasses.dataclass(frozen=True)
class _Projected:
    """Outfits in the searched directions: their score is `terms` + `features` · w.

    Attributes:
      features: float32 [n, m], or [v, n, m] for v users, padded.
      terms: the score at w = 0.
      present: 1, or 0 for padding.
      templates: their numbers; -1 for slots that are none.
    """

    features: Float32[np.ndarray, "*v n m"]
    terms: Float32[np.ndarray, "*v n"]
    present: Float32[np.ndarray, "*v n"]
    templates: Int[np.ndarray, "*v n"]

    def of(
        self, starts: Int[np.ndarray, " v"], counts: Int[np.ndarray, " v"]
    ) -> "_Projected":
        """Ranges of rows, one a user, padded to the longest."""
        offsets = np.arange(counts.max())
        present = offsets < counts[:, None]
        rows = np.where(present, starts[:, None] + offsets, 0)
        return _Projected(
            self.features[rows],
            self.terms[rows],
            present.astype(np.float32),
            self.templates[rows],
        )


def _newton(
    above: _Projected,
    below: _Projected,
    samples: _Projected,
    sample_terms: Float32[np.ndarray, "v r"],
    sign: Float32[np.ndarray, " v"],
    strength: float,
) -> tuple[Float32[np.ndarray, "v m"], Float32[np.ndarray, "v m m"]]:
    """The minimum w of each user's loss, see `BprFit`, and the Hessian there.

    Args:
      above: outfits that should score higher than those of `below` and `samples`.
      sample_terms: the scores of `samples` at each user's w = 0.
      sign: -1 turns the order around.
    """
    v, n, m = above.features.shape
    r = len(samples.terms)
    squares = samples.features[:, :, None] * samples.features[:, None]
    squares = squares.reshape(r, m * m)
    share = np.where(below.present.any(axis=1), 0.5, 0.0).astype(np.float32)[:, None]
    disliked = share * below.present
    disliked /= np.maximum(below.present.sum(1, keepdims=True), 1)
    alike = above.templates[:, :, None] == samples.templates
    alike |= ~alike.any(axis=2, keepdims=True)
    sampled = (1 - share)[:, None] / alike.sum(axis=2, keepdims=True, dtype=np.float32)
    weights = np.concatenate(
        [
            sampled * alike,
            np.broadcast_to(disliked[:, None], (v, n, disliked.shape[1])),
        ],
        axis=2,
    )
    weights *= above.present[:, :, None]
    above_t = above.features.swapaxes(1, 2)

    def gradient(w):
        """Of the loss; and the second derivative of each pair's."""
        low = np.concatenate(
            [
                sample_terms + w @ samples.features.T,
                below.terms + _rows(below.features, w),
            ],
            axis=1,
        )
        margins = (above.terms + _rows(above.features, w))[:, :, None] - low[:, None]
        margins *= sign[:, None, None]
        wrong = 1 / (1 + np.exp(np.clip(margins, -60, 60)))
        pull = weights * wrong
        down = pull.sum(axis=1)
        slope = down[:, :r] @ samples.features + _rows(
            below.features.swapaxes(1, 2), down[:, r:]
        )
        slope -= _rows(above_t, pull.sum(axis=2))
        return sign[:, None] * slope + strength * w, pull * (1 - wrong)

    def hessian_of(curved):
        down = curved.sum(axis=1)
        cross = curved[:, :, :r] @ samples.features + curved[:, :, r:] @ below.features
        hessian = above_t @ (curved.sum(axis=2)[:, :, None] * above.features - cross)
        hessian -= cross.swapaxes(1, 2) @ above.features
        hessian += (down[:, :r] @ squares).reshape(v, m, m)
        hessian += below.features.swapaxes(1, 2) @ (down[:, r:, None] * below.features)
        hessian[:, np.arange(m), np.arange(m)] += strength
        return hessian

    w = np.zeros((v, m), np.float32)
    slope, curved = gradient(w)
    hessian = hessian_of(curved)
    for _ in range(_MAX_NEWTON_STEPS):
        step = np.linalg.solve(hessian, slope[:, :, None])[:, :, 0]
        decrease = (slope * step).sum(axis=1)
        limit = 0.9 * decrease + _TOLERANCE
        low, length, high = (np.full(v, x, np.float32) for x in (0, 1, 1))
        for halvings in range(1, _MAX_HALVINGS + 1):
            slope, curved = gradient(w - length[:, None] * step)
            # The loss is convex, so along a step its slope only rises. Where it has risen
            # beyond the limit the step is too long; that a whole one is short does no harm.
            along = (slope * step).sum(axis=1)
            too_long, too_short = along < -limit, (along > limit) & (length < 1)
            wrong = too_long | too_short
            if not wrong.any() or halvings == _MAX_HALVINGS:
                break
            high = np.where(too_long, length, high)
            low = np.where(too_short, length, low)
            length = np.where(wrong, (low + high) / 2, length)
        w -= length[:, None] * step
        if decrease.max() < _TOLERANCE:
            break  # Such a step changes the Hessian as little.
        hessian = hessian_of(curved)
    return w, hessian


def _rows(
    matrices: Float32[np.ndarray, "v n m"], vectors: Float32[np.ndarray, "v m"]
) -> Float32[np.ndarray, "v n"]:
    """Each user's matrix times the user's vector."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _nearest_bits(
    codes: Codes,
    latents: Float32[np.ndarray, "u d"],
    covariance: Float32[np.ndarray, "d d"],
) -> Float32[np.ndarray, "u d"]:
    """Binary codes b with small (b − u)ᵀ C (b − u): the greedy descent of `BprFit`.

    Args:
      latents: u; shrunk first where they are large.
      covariance: C, of the outfits' features: the criterion is the variance of the
        difference of the scores.
    """
    low, high = (0.0, 1.0) if codes.alphabet == "01" else (-1.0, 1.0)
    middle, half = (low + high) / 2, (high - low) / 2
    size = np.abs(latents - middle).mean(axis=1, keepdims=True)
    shrunk = np.minimum(1, _ROOM * half / np.maximum(size, 1e-12))
    latents = (middle + shrunk * (latents - middle)).astype(np.float32)
    own = np.diag(covariance)
    bits = np.where(latents >= middle, high, low).astype(np.float32)
    for start in range(0, len(bits), _CHUNK):
        block = bits[start : start + _CHUNK]
        pull = (block - latents[start : start + _CHUNK]) @ covariance
        active = np.arange(len(block))
        # Each flip lowers the criterion, so this ends.
        while active.size:
            flip = 2 * (middle - block[active])
            change = flip * (2 * pull[active] + flip * own)
            best = change.argmin(axis=1)
            rows = np.arange(len(active))
            helps = change[rows, best] < -1e-6 * own[best]
            active, best = active[helps], best[helps]
            flip = flip[rows[helps], best]
            block[active, best] += flip
            pull[active] += flip[:, None] * covariance[best]
    return bits
