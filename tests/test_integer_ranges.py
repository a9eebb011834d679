"""Numbers that a type cannot hold are refused; none becomes another one."""

import numpy as np
import pytest
from fhn_jax.data_tools.split_users import parse_users
from polyvore_u import edit_line, write_polyvore_u
from random_codes import names_of

from fhn_jax.cli.new_users import parse_clicks
from fhn_jax.codes import Codes
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError
from fhn_jax.integrations.cluster import _check_address
from fhn_jax.new_users import fit_users
from fhn_jax.retrieval.arguments import item_ids, outfit_ids
from fhn_jax.training import sharding

# Not an id, though Python cannot even read it as a number.
DIGITS = "9" * 5000


@pytest.fixture(scope="module")
def codes():
    rng = np.random.default_rng(0)
    items = {name: rng.normal(size=(9, 16)) for name in ("top", "shoe")}
    return Codes.from_embeddings(items, rng.normal(size=(3, 16)))


@pytest.fixture
def root(tmp_path):
    return write_polyvore_u(tmp_path / "data", image_size=None)


@pytest.mark.parametrize("user", [-(2**32), 2**32, -(2**31) - 1, 2**31])
@pytest.mark.parametrize(
    "file", ["tuples_train_posi", "tuples_test_nega", "fill_in_blank_test"]
)
def test_a_user_beyond_32_bits_is_not_another_user(root, file, user):
    path = root / "tuples_8" / file
    row = path.read_text().splitlines()[1].split(",")
    candidates = len(row) // 4
    row[:: len(row) // candidates] = [str(user)] * candidates
    edit_line(path, 2, ",".join(row))
    with pytest.raises(InputError, match=rf"{file}:2: the id {user} in column 1"):
        read_catalogue(root, "8")


@pytest.mark.parametrize("item", [2**32, 2**32 - 1, -(2**32)])
def test_a_liked_item_beyond_32_bits_is_not_another_item(codes, item):
    with pytest.raises(InputError, match=f"likes of user 1 hold items .*{item}"):
        fit_users(codes, [[(1, 2)], [(item, 2)]])


def test_unsigned_likes_are_read_as_whole_numbers(codes):
    signed, unsigned = (
        fit_users(codes, [np.array([(1, 2)], kind)]).latents
        for kind in (np.int64, np.uint64)
    )
    np.testing.assert_array_equal(signed, unsigned)
    with pytest.raises(InputError, match="likes of user 0 hold items"):
        fit_users(codes, [np.array([(2**64 - 1, 2)], np.uint64)])


def test_ids_beyond_64_bits_are_named_as_they_were_given(codes):
    ids = np.array([2**64 - 1], np.uint64)
    with pytest.raises(InputError, match=f"hold the id {2**64 - 1}, expected less"):
        outfit_ids(ids)
    with pytest.raises(InputError, match=f"hold the id {2**64 - 1}, expected less"):
        item_ids(codes, "top", ids)


@pytest.mark.parametrize("item", [2**32, -1, 32])
def test_global_ids_take_no_item_of_another_category(root, item):
    catalogue = read_catalogue(root, "8")
    with pytest.raises(InputError, match=f"items .*{item}.* ids within the category"):
        catalogue.global_ids(np.array([[1, 2, 3], [1, item, 3]]))


def test_embeddings_too_large_for_32_bits_are_refused():
    vectors = {"top": np.full((2, 8), 1e300), "shoe": np.ones((2, 8))}
    with pytest.raises(InputError, match=r"items\['top'\] holds 1e\+300, expected"):
        Codes.from_embeddings(vectors)


def test_endless_digits_are_no_number(codes):
    with pytest.raises(InputError, match="is neither an id nor a range"):
        parse_users(f"0-{DIGITS}", 8)
    with pytest.raises(InputError, match="expected HOST:PORT"):
        _check_address(f"localhost:{DIGITS}")
    with pytest.raises(InputError, match="expected the id of an outfit"):
        parse_clicks(DIGITS, codes, names_of(codes), np.zeros((3, 2), int), "--likes")
    with pytest.raises(InputError, match="expected HOST:PORT"):
        with sharding.multi_host(f"localhost:{DIGITS}", 2, 0, agreed=InputError):
            pass
