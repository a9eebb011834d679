"""Codes of users nobody trained, from their likes and dislikes; items stay as they are.

Three learners share one interface: `fit` gives the codes of new users from their
clicks, `update` after some more clicks.

| learner      | how                                                         | needs         |
|--------------|-------------------------------------------------------------|---------------|
| `BprFit`     | minimises the BPR loss over the user's code, with a Gaussian | codes         |
|              | prior made of the known users                               |               |
| `Similarity` | closed form: known users' codes, weighted by how alike their | codes, clicks |
|              | outfits are, and the user's own outfits                     | of known users|
| `RandomCode` | random bits, to compare with                                | codes         |
"""

from fhn_jax.new_users.bpr import BprFit, fit_users
from fhn_jax.new_users.clicks import no_clicks
from fhn_jax.new_users.joining import join_users
from fhn_jax.new_users.learner import Learner, NewUsers, RandomCode
from fhn_jax.new_users.posterior import Posterior
from fhn_jax.new_users.similarity import Similarity

__all__ = [
    "BprFit",
    "Learner",
    "NewUsers",
    "Posterior",
    "RandomCode",
    "Similarity",
    "fit_users",
    "join_users",
    "no_clicks",
]
