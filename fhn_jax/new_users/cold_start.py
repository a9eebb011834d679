"""Users nobody trained: their codes from a few likes and dislikes, items frozen.

Three learners share one interface: `fit` gives the codes of new users from their
clicks, `update` after some more clicks.

| learner      | how                                                             | needs |
|--------------|-----------------------------------------------------------------|-------|
| `BprFit`     | minimises the BPR loss over the user's code, with a Gaussian     | codes |
|              | prior made of the known users                                   |       |
| `Similarity` | closed form: known users' codes, weighted by how alike their     | codes, clicks |
|              | outfits are, and the user's own outfits                         | of known users |
| `RandomCode` | random bits, to compare with                                    | codes |

Clicks are `Outfits`: users are numbered from 0, and an item may be -1 for a slot that
was not part of the click, so a single liked item is a click too.
"""

import abc
import copy
import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int8

from fhn_jax.codes import Codes, ScoreForm, gather, outfit_scores, pack
from fhn_jax.codes.scoring import SCALE
from fhn_jax.data.catalogue import Catalogue, Outfits
from fhn_jax.data.negatives import outfit_keys
from fhn_jax.errors import InputError

# Outfits, and users, taken at a time: their codes then fit the processor's cache.
_BLOCK = 256
_CHUNK = 64
_MAX_NEWTON_STEPS = 20
# A Newton step is done when it lowers no user's loss by more than this.
_TOLERANCE = 1e-4
# Mean magnitude that bits can follow. A real code that is larger, as that of a user of
# many clicks, is shrunk first: bits have no room for its largest entries.
_ROOM = 0.7


@dataclasses.dataclass(frozen=True, eq=False)
class NewUsers:
    """Learned users, and the clicks they were learned from.

    Attributes:
      latents: real user codes, for the asymmetric score.
      bits: binary user codes, in the alphabet of the item codes.
      likes, dislikes: all clicks so far.
    """

    latents: Float32[np.ndarray, "u d"]
    bits: Int8[np.ndarray, "u d"]
    likes: Outfits
    dislikes: Outfits

    def __len__(self) -> int:
        return len(self.latents)

    def into(self, codes: Codes, catalogue: Catalogue | None = None) -> Codes:
        """`codes` with these users instead of its own.

        Args:
          codes: whose items the users were learned on.
          catalogue: data of the new users, so that `evaluate` takes the result.
        Raises:
          ValueError: the items of `catalogue` are not those of `codes`.
        """
        changes = {"users": pack(self.bits), "user_latents": self.latents}
        if catalogue is not None:
            check_same_items(codes, catalogue)
            changes["dataset"] = catalogue.dataset
            changes["dataset_checksum"] = catalogue.checksum
        return dataclasses.replace(codes, **changes)


def no_clicks(codes: Codes) -> Outfits:
    """Clicks of nobody."""
    return Outfits(np.zeros(0, np.int32), np.zeros((0, len(codes.slots)), np.int32))


def check_same_items(codes: Codes, catalogue: Catalogue) -> None:
    """Raises ValueError unless codes and catalogue number the same items alike."""
    if codes.slots != catalogue.slots or codes.categories != catalogue.categories:
        raise InputError(
            f"the codes have slots {codes.slots} of {codes.categories}, the data in "
            f"{catalogue.root} has {catalogue.slots} of {catalogue.categories}; use "
            "the codes of a run on such outfits"
        )
    for category, ours, theirs in zip(
        codes.categories, codes.names or (), catalogue.names, strict=False
    ):
        if ours != theirs:
            raise InputError(
                f"the codes have {len(ours)} items of category {category!r}, and "
                f"tuples_{catalogue.variant} in {catalogue.root} lists {len(theirs)} "
                "others or in another order; encode them with the cold-start action"
            )
    if codes.names is None:
        sizes = tuple(map(len, catalogue.names))
        if codes.num_items != sizes:
            raise InputError(
                f"the codes have {codes.num_items} items of {codes.categories}, and "
                f"tuples_{catalogue.variant} in {catalogue.root} lists {sizes}; encode "
                "them with the cold-start action"
            )


class Learner(abc.ABC):
    """What the learners share: checks, and clicks that add up."""

    def __init__(self, codes: Codes):
        self.codes = codes
        for category, count in zip(codes.categories, codes.num_items, strict=True):
            if not count:
                raise InputError(
                    f"the codes have no items of category {category!r}; there is "
                    "nothing to learn a user from"
                )

    def fit(
        self, likes: Outfits, dislikes: Outfits, num_users: int | None = None
    ) -> NewUsers:
        """Codes of new users.

        Args:
          likes, dislikes: clicks; an item of -1 is a slot that was not shown.
          num_users: users are 0 to num_users - 1; by default up to the last one with
            a click. A user without clicks gets what is best for an unknown one.
        Raises:
          ValueError: a user or item out of range, a click on no item, or an outfit
            that a user both likes and dislikes; says where.
        """
        if num_users is None:
            users = np.concatenate([likes.users, dislikes.users])
            num_users = int(users.max(initial=-1)) + 1
        _check(self.codes, likes, dislikes, num_users)
        latents, bits = self._learn(likes, dislikes, num_users)
        return NewUsers(
            latents.astype(np.float32), bits.astype(np.int8), likes, dislikes
        )

    def update(self, users: NewUsers, likes: Outfits, dislikes: Outfits) -> NewUsers:
        """Codes after some more clicks: those that `fit` gives from all clicks.

        Only users that clicked are learned again.

        Args:
          users: from `fit` or `update`.
          likes, dislikes: the new clicks.
        Raises:
          ValueError: as `fit`.
        """
        both = [
            Outfits(
                np.concatenate([old.users, new.users]),
                np.concatenate([old.items, new.items]),
            )
            for old, new in ((users.likes, likes), (users.dislikes, dislikes))
        ]
        for name, clicks in (("likes", likes), ("dislikes", dislikes)):
            _check_clicks(self.codes, name, clicks, len(users))
        changed = np.unique(np.concatenate([likes.users, dislikes.users]))
        learned = self.fit(*(_of_users(clicks, changed) for clicks in both))
        latents, bits = users.latents.copy(), users.bits.copy()
        latents[changed], bits[changed] = learned.latents, learned.bits
        return NewUsers(latents, bits, *both)

    @abc.abstractmethod
    def _learn(
        self, likes: Outfits, dislikes: Outfits, num_users: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Real and binary codes from clicks that are right."""


class RandomCode(Learner):
    """Random bits for every user, whatever they like.

    Args:
      codes: of the items.
      seed: of the bits.
    """

    def __init__(self, codes: Codes, *, seed: int = 0):
        super().__init__(codes)
        self.seed = seed

    def _learn(self, likes, dislikes, num_users):
        rng = np.random.default_rng(self.seed)
        signs = rng.choice([-1.0, 1.0], (num_users, self.codes.bits))
        return _both_codes(self.codes, signs)


class Similarity(Learner):
    """The fork's closed form, see `similarity`.

    Args:
      codes: of items and known users.
      likes, dislikes: clicks of the known users, at least one of each for everyone.
      beta: weight of the known users' codes; the rest is of the user's own outfits.
      epsilon: weight of dislikes among the known users' codes, at least 0.
      page: as the fork's web page does it: known users' dislikes are compared with the
        new user's likes; likes or dislikes that are not there yet count as all ones.
      known: codes of the known users' items, where these are not those of `codes`.
    Raises:
      ValueError: beta or epsilon out of range; a known user without clicks.
    """

    def __init__(
        self,
        codes: Codes,
        likes: Outfits,
        dislikes: Outfits,
        *,
        beta: float = 0.5,
        epsilon: float = 0.5,
        page: bool = False,
        known: Codes | None = None,
    ):
        super().__init__(codes)
        _check_weights(beta, epsilon)
        self.beta, self.epsilon, self.page = beta, epsilon, page
        self.known = []
        known = codes if known is None else known
        for name, clicks in (("likes", likes), ("dislikes", dislikes)):
            _check_clicks(known, f"known {name}", clicks, codes.num_users)
            counts = np.bincount(clicks.users, minlength=codes.num_users)
            if not counts.all():
                raise InputError(
                    f"known user {np.argmin(counts)} has no {name}; similarity needs "
                    "likes and dislikes of every user of the codes"
                )
            self.known.append(_mean_features(known, clicks, codes.num_users))

    def weighted(self, beta: float, epsilon: float) -> "Similarity":
        """The same with other weights.

        Raises:
          ValueError: a weight out of range.
        """
        _check_weights(beta, epsilon)
        other = copy.copy(self)
        other.beta, other.epsilon = beta, epsilon
        return other

    def _learn(self, likes, dislikes, num_users):
        codes = self.codes
        user_codes = codes.user_codes().astype(np.float64)
        liked = _mean_features(codes, likes, num_users)
        disliked = _mean_features(codes, dislikes, num_users)
        if self.page:
            for features, clicks in ((liked, likes), (disliked, dislikes)):
                features[~_have(clicks, num_users)] = 1
        signs = similarity(
            *self.known,
            liked,
            disliked,
            user_codes,
            codes.lambda_user,
            codes.lambda_item,
            beta=self.beta,
            epsilon=self.epsilon,
            disliked_by_known=liked if self.page else disliked,
        )
        # DIFFERS: of 0/1 codes the fork takes the sign of signs - ½, which is always -1.
        if codes.alphabet == "01":
            user_codes = 2 * user_codes - 1
        # Nothing to compare by: all known users are equally alike.
        clicked = _have(likes, num_users) | _have(dislikes, num_users)
        signs[~clicked] = user_codes.mean(axis=0)
        return _both_codes(codes, signs)


def similarity(
    known_likes: Float[np.ndarray, "k d"],
    known_dislikes: Float[np.ndarray, "k d"],
    likes: Float[np.ndarray, "u d"],
    dislikes: Float[np.ndarray, "u d"],
    known_codes: Float[np.ndarray, "k d"],
    lambda_user: Float[np.ndarray, " d"],
    lambda_item: Float[np.ndarray, " d"],
    *,
    beta: float = 0.5,
    epsilon: float = 0.5,
    disliked_by_known: Float[np.ndarray, "u d"],
) -> Float64[np.ndarray, "u d"]:
    """Codes of new users before the sign, from mean features of outfits.

    With f(A, B) the mean over known users k of (mean over bits of λⁱ A_k B) · code_k:
    β · [f(known likes, likes) − ε (f(known likes, dislikes) + f(known dislikes,
    disliked by known))] / (1 + 2ε) + (1 − β) · λᵘ (likes − dislikes) / 2.

    Args:
      known_likes, known_dislikes: mean feature of the outfits that known users like
        and dislike.
      likes, dislikes: the same of the new users.
      known_codes: binary codes of the known users.
      beta, epsilon: see `Similarity`.
      disliked_by_known: what is compared with the known users' dislikes: the new
        users' dislikes; on the fork's page their likes.
    Source: the cold start and the web page of a fork of the PyTorch release.
    """
    bits = known_codes.shape[1]

    def from_known(theirs, ours):
        alike = (ours * lambda_item) @ theirs.T / bits
        return alike @ known_codes / len(known_codes)

    unlike = from_known(known_likes, dislikes)
    unlike = unlike + from_known(known_dislikes, disliked_by_known)
    of_users = (from_known(known_likes, likes) - epsilon * unlike) / (1 + 2 * epsilon)
    of_items = (likes - dislikes) * lambda_user / 2
    return (beta * of_users + (1 - beta) * of_items).astype(np.float64)


def _mean_features(
    codes: Codes, clicks: Outfits, num_users: int
) -> Float64[np.ndarray, "u d"]:
    """Mean binary code of each user's outfits; 0 for a user without any."""
    plain = dataclasses.replace(codes, item_scales=None)
    means = np.zeros((num_users, plain.bits))
    for rows, form, gathered in _blocks(plain, clicks.items):
        features = sum(map(sum, gathered)) / (len(form.slots) * form.modalities)
        np.add.at(means, clicks.users[rows], features)
    number = np.bincount(clicks.users, minlength=num_users)
    return means / np.maximum(number, 1)[:, None]


def _check_weights(beta: float, epsilon: float) -> None:
    if not 0 <= beta <= 1:
        raise InputError(f"beta={beta}: expected 0 to 1")
    if not 0 <= epsilon < np.inf:
        raise InputError(f"epsilon={epsilon}: expected at least 0")


class BprFit(Learner):
    """Bayesian personalised ranking over the user's code alone, items frozen.

    The score of an outfit is linear in the user's code u: φ(O)·u + c(O). The code
    minimises, over the user's likes l,
    Σ_l [½ mean over dislikes n + ½ mean over sampled outfits r] softplus(s_n − s_l)
    + strength/2 · |u − μ|² in the metric Σ⁻¹: a convex problem with one minimum. With
    no dislikes, sampled outfits have all the weight; with dislikes alone, sampled
    outfits rank above them; with neither, u = μ.

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
        features = np.empty((count, codes.bits), np.float32)
        for rows, block, _ in self._features(items):
            features[rows] = block
        centred = features - features.mean(axis=0)
        self._covariance = (centred.T @ centred / count).astype(np.float32)
        self._mean, prior = _prior(codes, shrinkage)
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
        _check(self.codes, likes, dislikes, num_users)
        return self._search(likes, dislikes, num_users, around)

    def _learn(self, likes, dislikes, num_users):
        latents = self._search(likes, dislikes, num_users)
        return latents, _nearest_bits(self.codes, latents, self._covariance)

    def _search(self, likes, dislikes, num_users, means=None):
        latents = np.tile(self._mean, (num_users, 1)) if means is None else means.copy()
        # One table of outfits, likes first; a user's are a range of `order`.
        users = np.concatenate([likes.users, dislikes.users + num_users])
        order = np.argsort(users, kind="stable")
        counts = np.bincount(users, minlength=2 * num_users).reshape(2, num_users)
        starts = np.cumsum(counts).reshape(2, num_users) - counts
        items = np.concatenate([likes.items, dislikes.items])[order]
        own = self._mean if means is None else means[users[order] % num_users]
        outfits = self._project(items, own)
        # Users with as many clicks go together: less padding.
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
            found = _newton(
                above,
                below,
                self._samples,
                self._samples.terms
                + (latents[chunk] - self._mean) @ self._sampled_features.T,
                np.where(turned, -1, 1).astype(np.float32),
                self.strength,
            )
            latents[chunk] += found @ self._basis.T
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
        )
        for rows, features, terms in self._features(items):
            projected.features[rows] = features @ self._basis
            own = mean if mean.ndim == 1 else mean[rows]
            projected.terms[rows] = terms + (features * own).sum(axis=1)
        return projected

    def _features(self, items: Int[np.ndarray, "n s"]):
        """φ and c of outfits, a block at a time: the score for a user u is φ·u + c.

        Yields:
          rows of the block; φ, float32 [n, d]; c, float64 [n].
        """
        codes = self.codes
        for rows, form, gathered in _blocks(codes, items):
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
    """

    features: Float32[np.ndarray, "*v n m"]
    terms: Float32[np.ndarray, "*v n"]
    present: Float32[np.ndarray, "*v n"]

    def of(
        self, starts: Int[np.ndarray, " v"], counts: Int[np.ndarray, " v"]
    ) -> "_Projected":
        """Ranges of rows, one a user, padded to the longest."""
        offsets = np.arange(counts.max())
        present = offsets < counts[:, None]
        rows = np.where(present, starts[:, None] + offsets, 0)
        return _Projected(
            self.features[rows], self.terms[rows], present.astype(np.float32)
        )


def _newton(
    above: _Projected,
    below: _Projected,
    samples: _Projected,
    sample_terms: Float32[np.ndarray, "v r"],
    sign: Float32[np.ndarray, " v"],
    strength: float,
) -> Float32[np.ndarray, "v m"]:
    """The minimum w of each user's loss, see `BprFit`.

    Args:
      above: outfits that should score higher than those of `below` and `samples`.
      sample_terms: the scores of `samples` at each user's w = 0.
      sign: -1 turns the order around.
    """
    v, _, m = above.features.shape
    r = len(samples.terms)
    squares = samples.features[:, :, None] * samples.features[:, None]
    squares = squares.reshape(r, m * m)
    share = np.where(below.present.any(axis=1), 0.5, 0.0).astype(np.float32)[:, None]
    weights = np.concatenate(
        [
            np.broadcast_to((1 - share) / r, (v, r)),
            share * below.present / np.maximum(below.present.sum(1, keepdims=True), 1),
        ],
        axis=1,
    )
    weights = above.present[:, :, None] * weights[:, None]
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

    w = np.zeros((v, m), np.float32)
    slope, curved = gradient(w)
    for _ in range(_MAX_NEWTON_STEPS):
        down = curved.sum(axis=1)
        cross = curved[:, :, :r] @ samples.features + curved[:, :, r:] @ below.features
        hessian = above_t @ (curved.sum(axis=2)[:, :, None] * above.features - cross)
        hessian -= cross.swapaxes(1, 2) @ above.features
        hessian += (down[:, :r] @ squares).reshape(v, m, m)
        hessian += below.features.swapaxes(1, 2) @ (down[:, r:, None] * below.features)
        hessian[:, np.arange(m), np.arange(m)] += strength
        step = np.linalg.solve(hessian, slope[:, :, None])[:, :, 0]
        decrease = (slope * step).sum(axis=1)
        length = np.ones((v, 1), np.float32)
        while True:
            slope, curved = gradient(w - length * step)
            # The loss is convex: where it is less steep, it is lower.
            steep = np.abs((slope * step).sum(axis=1)) > 0.9 * decrease + _TOLERANCE
            if not steep.any():
                break
            length[steep] /= 2
        w -= length * step
        if decrease.max() < _TOLERANCE:
            break
    return w


def _rows(
    matrices: Float32[np.ndarray, "v n m"], vectors: Float32[np.ndarray, "v m"]
) -> Float32[np.ndarray, "v n"]:
    """Each user's matrix times the user's vector."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _prior(
    codes: Codes, shrinkage: float
) -> tuple[Float32[np.ndarray, " d"], Float32[np.ndarray, "d d"]]:
    """Mean of the known users, and a root of their covariance, see `BprFit`."""
    known = codes.user_latents.astype(np.float64)
    identity = np.eye(codes.bits)
    if not len(known):
        middle = 0.5 if codes.alphabet == "01" else 0.0
        return np.full(codes.bits, middle, np.float32), identity.astype(np.float32)
    mean = known.mean(axis=0)
    centred = known - mean
    spread = (known**2).mean() or 1.0
    covariance = (1 - shrinkage) * centred.T @ centred / max(len(known) - 1, 1)
    values, vectors = np.linalg.eigh(covariance + shrinkage * spread * identity)
    root = vectors * np.sqrt(values)
    return mean.astype(np.float32), root.astype(np.float32)


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


def _both_codes(
    codes: Codes, signs: Float[np.ndarray, "u d"]
) -> tuple[np.ndarray, np.ndarray]:
    """Real and binary codes from values whose sign is the bit.

    The real code has the same signs and a mean magnitude of 1, as the bits have.
    """
    size = np.abs(signs).mean(axis=1, keepdims=True)
    latents = signs / np.where(size > 0, size, 1)
    bits = np.where(signs >= 0, 1.0, -1.0)
    if codes.alphabet == "01":
        return (latents + 1) / 2, (bits + 1) / 2
    return latents, bits


def _blocks(codes: Codes, items: Int[np.ndarray, "n s"]):
    """Blocks of outfits that fill the same slots.

    Args:
      items: -1 for none.
    Yields:
      rows of the block; the form of their score; the codes of their items, see
      `fhn_jax.codes.gather`.
    """
    filled = items >= 0
    for pattern in np.unique(filled, axis=0):
        slots = np.flatnonzero(pattern).tolist()
        form = ScoreForm.of(codes, slots)
        rows = np.flatnonzero((filled == pattern).all(axis=1))
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            yield block, form, gather(codes, items[block][:, slots], slots)


def _have(clicks: Outfits, num_users: int) -> Bool[np.ndarray, " u"]:
    """Which users have any of these clicks."""
    return np.bincount(clicks.users, minlength=num_users) > 0


def _of_users(clicks: Outfits, users: Int[np.ndarray, " u"]) -> Outfits:
    """The clicks of some users, who are numbered anew."""
    mine = np.isin(clicks.users, users)
    return Outfits(
        np.searchsorted(users, clicks.users[mine]).astype(np.int32), clicks.items[mine]
    )


def _check_clicks(codes: Codes, name: str, clicks: Outfits, num_users: int) -> None:
    expected = (len(clicks.users), len(codes.slots))
    if clicks.items.shape != expected:
        raise InputError(
            f"{name} have items {clicks.items.shape}, expected {expected}: one item "
            f"for each of the slots {[codes.categories[c] for c in codes.slots]}"
        )
    columns = [("user", clicks.users, 0, num_users)]
    columns += [
        (codes.categories[c], clicks.items[:, slot], -1, codes.num_items[c])
        for slot, c in enumerate(codes.slots)
    ]
    for what, ids, low, end in columns:
        wrong = np.flatnonzero((ids < low) | (ids >= end))
        if wrong.size:
            none = ", or -1 for none" if low < 0 else ""
            raise InputError(
                f"{name}, row {wrong[0]}: {what} {ids[wrong[0]]} is unknown; expected "
                f"0 to {end - 1}{none}"
            )
    empty = np.flatnonzero((clicks.items < 0).all(axis=1))
    if empty.size:
        raise InputError(f"{name}, row {empty[0]}: no item; expected at least one")


def _check(codes: Codes, likes: Outfits, dislikes: Outfits, num_users: int) -> None:
    for name, clicks in (("likes", likes), ("dislikes", dislikes)):
        _check_clicks(codes, name, clicks, num_users)
    _check_consistent(codes, likes, dislikes)


def _check_consistent(codes: Codes, likes: Outfits, dislikes: Outfits) -> None:
    keys = []
    for clicks in (likes, dislikes):
        table = np.column_stack([clicks.users, clicks.items + 1])
        sizes = [codes.num_items[c] + 1 for c in codes.slots]
        keys.append(outfit_keys(table, [2**31, *sizes]))
    both = np.flatnonzero(np.isin(keys[0], keys[1]))
    if both.size:
        row = both[0]
        raise InputError(
            f"user {likes.users[row]} both likes and dislikes outfit "
            f"{likes.items[row].tolist()}; keep the click that holds"
        )
