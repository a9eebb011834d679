"""New users in closed form: as the known users whose outfits are like theirs."""

import copy
import dataclasses

import numpy as np
from jaxtyping import Float, Float64

from fhn_jax.codes import Codes, blocks
from fhn_jax.data.catalogue import Outfits
from fhn_jax.errors import InputError
from fhn_jax.new_users.clicks import check_clicks, have_clicks
from fhn_jax.new_users.learner import Learner, both_codes


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
      ValueError: beta or epsilon out of range; no known users, or one without clicks.
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
        known = codes if known is None else known
        if not codes.num_users:
            raise InputError(
                "the codes have no known users, and similarity is to those; learn new "
                "users with method=fit"
            )
        for name, clicks in (("likes", likes), ("dislikes", dislikes)):
            check_clicks(known, f"known {name}", clicks, codes.num_users)
            counts = np.bincount(clicks.users, minlength=codes.num_users)
            if not counts.all():
                raise InputError(
                    f"known user {np.argmin(counts)} has no {name}; similarity needs "
                    "likes and dislikes of every user of the codes"
                )
        self._known_likes = _mean_features(known, likes, codes.num_users)
        self._known_dislikes = _mean_features(known, dislikes, codes.num_users)

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
                features[~have_clicks(clicks, num_users)] = 1
        signs = similarity(
            self._known_likes,
            self._known_dislikes,
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
        clicked = have_clicks(likes, num_users) | have_clicks(dislikes, num_users)
        signs[~clicked] = user_codes.mean(axis=0)
        return both_codes(codes, signs)


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
    for rows, form, gathered in blocks(plain, clicks.items):
        features = sum(map(sum, gathered)) / (len(form.slots) * form.modalities)
        np.add.at(means, clicks.users[rows], features)
    number = np.bincount(clicks.users, minlength=num_users)
    return means / np.maximum(number, 1)[:, None]


def _check_weights(beta: float, epsilon: float) -> None:
    if not 0 <= beta <= 1:
        raise InputError(f"beta={beta}: expected 0 to 1")
    if not 0 <= epsilon < np.inf:
        raise InputError(f"epsilon={epsilon}: expected at least 0")
