"""The page learns: what a visitor with a hidden taste is shown, click by click."""

import dataclasses

import numpy as np
import pytest
from random_codes import random_codes

from fhn_jax.codes import Scorer
from fhn_jax.recommender import Recommender
from fhn_jax.retrieval.searcher import Searcher
from fhn_jax.web import schemas
from fhn_jax.web.service import Service
from fhn_jax.web.state import State

VISITORS, CLICKS, PAGE = 20, 30, 12


@pytest.fixture
def site(tmp_path):
    """A service whose known users are not its visitors; codes of the visitors."""
    everybody = random_codes(
        0,
        counts=(40, 30, 20),
        num_users=40 + VISITORS,
        bits=32,
        hash_types=1,
        zero_item_term=True,  # else all would like the same outfits
    )
    known = dataclasses.replace(
        everybody, users=everybody.users[:40], user_latents=everybody.user_latents[:40]
    )
    rng = np.random.default_rng(1)
    outfits = np.stack([rng.integers(n, size=1500) for n in known.num_items], axis=1)
    outfits = np.unique(outfits, axis=0)
    state = State(f"sqlite:///{tmp_path}/visitors.sqlite", known.sha256())
    recommender = Recommender(known, Searcher.in_memory(known, outfits))
    yield Service(recommender, state, None, outfits=len(outfits)), everybody, outfits
    state.close()


@pytest.mark.slow
def test_the_share_of_liked_outfits_at_least_doubles_within_thirty_clicks(site):
    service, everybody, outfits = site
    first, last = [], []
    for user in range(40, 40 + VISITORS):
        of_user = np.full(len(outfits), user)
        scores = Scorer(everybody).score("asymmetric", of_user, outfits)
        liked = scores >= np.quantile(scores, 0.9)
        likes = dict(zip(map(tuple, outfits.tolist()), liked.tolist(), strict=True))
        token, judged = service.visitors.create(None), set()
        for click in range(CLICKS + 1):
            visitor = service.visitors.find(token)
            shown = service.outfits.recommend(visitor, PAGE, 0.2).outfits
            keys = [tuple(item.item for item in outfit.items) for outfit in shown]
            assert len(set(keys)) == PAGE and not judged & set(keys)
            share = np.mean([likes[key] for key in keys])
            if click == 0:
                first.append(share)
            if click == CLICKS:
                last.append(share)
                break
            items = {item.category: item.item for item in shown[0].items}
            request = schemas.Judgement(items=items, liked=likes[keys[0]])
            service.visitors.judge(visitor, request)
            judged.add(keys[0])
    # Nothing is known at first, so that is about chance: a tenth.
    assert 0.05 < np.mean(first) < 0.2
    assert np.mean(last) > 2 * np.mean(first) and np.mean(last) > 0.3
