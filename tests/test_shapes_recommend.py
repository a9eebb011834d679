"""The recommender and the page's cards with outfits of several shapes."""

import numpy as np
import pytest
from random_codes import outfits_of, shop_codes

from fhn_jax.codes import Scorer
from fhn_jax.recommender import Judged, Recommender
from fhn_jax.recommender.suggestions import Suggestion
from fhn_jax.retrieval.searcher import Searcher
from fhn_jax.web.cards import Cards, Refused


@pytest.fixture(scope="module")
def recommender():
    codes = shop_codes()
    outfits = outfits_of(np.random.default_rng(0), codes, 200)
    return Recommender(codes, Searcher.in_memory(codes, outfits))


def test_what_was_judged_is_not_recommended_whatever_its_shape(recommender):
    stranger = recommender.start(None)
    nothing = Judged.nothing(6)
    first = recommender.recommend(stranger, 12, judged=nothing)
    sizes = {sum(item >= 0 for item in one.items) for one in first}
    assert len(sizes) > 1
    rows = np.array([one.items for one in first], np.int32)
    judged = Judged(rows, np.arange(12) % 2 == 0)
    visitor = recommender.learn(None, judged)
    again = recommender.recommend(visitor, 12, judged=judged)
    assert len(again) == 12
    assert not {one.items for one in again} & {one.items for one in first}


def test_reasons_add_up_to_the_score_of_each_shape(recommender):
    codes = recommender.codes
    items = outfits_of(np.random.default_rng(1), codes, 40)
    users = np.zeros(40, int)
    expected = Scorer(codes).score("asymmetric", users, items)
    scores = recommender.scores(codes.user_latents[0], items.tolist())
    np.testing.assert_allclose(scores, expected, atol=1e-2)
    for row, score in zip(items.tolist(), scores, strict=True):
        reasons = recommender.explain(codes.user_latents[0], row)
        assert reasons.score == pytest.approx(score, abs=1e-9)
        pieces = sum(item >= 0 for item in row)
        assert len(reasons.items) == 6
        assert len(reasons.pairs) == pieces * (pieces - 1) // 2


def test_a_card_shows_the_pieces_that_there_are(recommender):
    cards = Cards(recommender)
    items = cards.outfit({"dress": 2, "shoe": 1})
    assert items == [-1, -1, 1, 2, -1, -1]
    card = cards.outfit_card(Suggestion(tuple(items), 3.0))
    assert [(piece.category, piece.item) for piece in card.items] == [
        ("shoe", 1),
        ("dress", 2),
    ]
    with pytest.raises(Refused) as refused:
        cards.outfit({"dress": 2})
    assert "an outfit has the slots top, bottom, shoe or top" in str(
        vars(refused.value)
    )
