"""Codes of outfits of several shapes: which slots make an outfit."""

import numpy as np
import pytest
from random_codes import random_codes, shop_codes

from fhn_jax.codes import Codes


def test_templates_are_kept_in_the_file_unless_there_is_one_of_all_slots(tmp_path):
    codes = shop_codes()
    codes.save(tmp_path / "codes.safetensors")
    loaded = Codes.load(tmp_path / "codes.safetensors")
    assert (
        loaded.templates == codes.templates == ((0, 1, 2), (0, 1, 2, 4), (2, 3), (5,))
    )
    assert loaded.sha256() == codes.sha256()
    one = random_codes()
    assert one.templates == ((0, 1, 2),)
    assert "templates" not in one.to_bytes()[:2000].decode(errors="ignore")


def test_templates_of_embeddings_are_named_by_their_categories():
    rng = np.random.default_rng(0)
    vectors = {name: rng.normal(size=(4, 16)) for name in ("top", "shoe", "dress")}

    def codes(*templates):
        return Codes.from_embeddings(vectors, templates=templates)

    made = codes(("shoe", "top"), ("dress", "shoe"), ("dress", "shoe"))
    assert made.templates == ((0, 1), (1, 2))
    for wrong in (("hat", "top"), ("top", "top"), "top"):
        with pytest.raises(
            ValueError, match="template is .* expected a list of some of"
        ):
            codes(("top", "shoe", "dress"), wrong)
    with pytest.raises(ValueError, match="templates is .* each slot in one at least"):
        codes(("top", "shoe"))
