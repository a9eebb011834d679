"""Tools and the table of results on outfits of several shapes."""

import numpy as np
import pytest
from fhn_jax.data_tools.make_fitb import make_fitb
from fhn_jax.data_tools.split_users import split_users
from polyvore_u import write_polyvore_u
from random_codes import codes_of
from shapes import TEMPLATES, write_shapes

from fhn_jax.data.catalogue import template_masks
from fhn_jax.data.layout import read_catalogue
from fhn_jax.evaluation import evaluators


@pytest.fixture
def root(tmp_path):
    return write_shapes(tmp_path / "data")


def test_data_of_one_shape_has_no_block_of_templates(tmp_path):
    write_polyvore_u(tmp_path, image_size=None)
    catalogue = read_catalogue(tmp_path, "8")
    results = evaluators.evaluate(codes_of(catalogue), catalogue)
    assert "by_template" not in results and "by_template" not in results["data"]


@pytest.mark.parametrize("category", ["random", "bag"])
def test_questions_keep_the_template_of_their_outfit(root, category):
    (root / "tuples_8/fill_in_blank_test").unlink()
    # Each user likes two bags, and eight are enough for a question about one.
    make_fitb(root, "8", category=category, seed=1)
    catalogue = read_catalogue(root, "8")
    questions, positives = catalogue.fitb["test"], catalogue.splits["test"].positives
    asked = positives.items[:, 5] >= (-1 if category == "random" else 0)
    np.testing.assert_array_equal(questions.items[:, 0], positives.items[asked])
    masks = template_masks(questions.items)
    assert (masks == masks[:, :1]).all()
    for user, candidates in zip(questions.users, questions.items, strict=True):
        own = {tuple(row) for row in positives.items[positives.users == user].tolist()}
        every = {tuple(row) for row in positives.items.tolist()}
        single = (candidates[0] >= 0).sum() == 1
        wrong = {tuple(row) for row in candidates[1:].tolist()}
        assert len(wrong) == 3 and not wrong & (own if single else every)


def test_a_variant_of_some_users_keeps_absent_items(root):
    split_users(root, "8", "few", users="2-4")
    before, after = (read_catalogue(root, name) for name in ("8", "few"))
    assert after.templates == TEMPLATES
    train = before.splits["train"].positives
    rows = (train.users >= 2) & (train.users <= 4)
    np.testing.assert_array_equal(
        after.splits["train"].positives.items, train.items[rows]
    )
