"""A Ray cluster on this machine, and what is asked of it, for tests."""

import contextlib
import tempfile

import numpy as np
import pytest
from polyvore_u import write_polyvore_u
from random_codes import codes_of, random_codes

from fhn_jax import files
from fhn_jax.data.layout import read_catalogue
from fhn_jax.retrieval.filters import ExcludeOutfits, MustContain, Only, Wardrobe
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.where import Where

# Codes of few bits and weights of 1, so that many outfits tie.
CODES = random_codes(bits=8, counts=(30, 20, 10), num_users=40, hash_types=0, alpha=1.0)
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}

ARGUMENTS = [
    {"k": 10, "score": "binary"},
    {"k": 25},
    {"k": 4000, "score": "binary"},
    {"filters": MustContain({"shoe": 4}), "k": 300},
    {"filters": Only({"top": [1, 2, 3], "shoe": [0, 9]})},
    {"filters": Only({"top": []})},
    {"filters": [Wardrobe({"top": range(9), "bottom": range(9), "shoe": [0, 9]})]},
    {
        "filters": [[ExcludeOutfits(range(user, 3000, 7))] for user in range(40)],
        "k": 50,
    },
    {"filters": ExcludeOutfits([[3, 2, 1], [0, 19, 9]]), "k": 4000},
    {"filters": Where("price<=70", "shoe:brand!=bolt"), "k": 50},
    {"filters": Where("price<=90"), "at_most": {"item": 3, "brand": 9}, "k": 30},
]

WRONG = [
    ({"k": 0}, "k is 0, expected a whole number of at least 1"),
    ({"k": True}, "k is True, expected a whole number"),
    ({"user": 40}, "user 40 is not among the codes; expected 0 to 39"),
    ({"user": -1}, "user -1 is not among the codes"),
    ({"user": np.zeros(16)}, "expected floats"),
    ({"user": np.full(8, np.nan)}, "expected finite"),
    ({"user": np.full(8, 1e30)}, "do not fit the range"),
    ({"user": np.zeros((2, 8))}, "use search_batch for several users"),
    ({"score": "relaxed"}, "score is 'relaxed', expected one of"),
    (
        {"filters": ExcludeOutfits([3000])},
        "outfit 3000 is not in the index; expected 0 to 2999",
    ),
    (
        {"filters": MustContain({"hat": 1})},
        "category 'hat' is unknown; expected one of",
    ),
    (
        {"filters": Only({"shoe": [10]})},
        "shoe 10 is not among the codes; expected 0 to 9",
    ),
]


@contextlib.contextmanager
def started():
    """A Ray cluster on this machine: it, and those of its three nodes that may go."""
    from ray.cluster_utils import Cluster

    # Not below pytest's folder: the paths of sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="ray") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = Cluster(
            initialize_head=True, head_node_args=NODE | {"include_dashboard": False}
        )
        try:
            others = [head.add_node(**NODE) for _ in range(2)]
            yield head, others
        finally:
            head.shutdown()


def write_run(folder):
    """What training leaves for recommendations; returns the folder."""
    root = write_polyvore_u(folder / "tiny")
    codes_of(read_catalogue(root, "8")).save(folder / "codes.safetensors")
    files.write_json(
        folder / "config.json", {"data": {"root": str(root), "variant": "8"}}
    )
    return folder


def write_index(folder):
    """An index of two segments, with removed outfits; returns the folder and it."""
    rng = np.random.default_rng(0)
    outfits = np.stack([rng.integers(0, n, 3000) for n in CODES.num_items], axis=1)
    prices = rng.integers(0, 100, sum(CODES.num_items))
    about = {"price": prices, "brand": rng.choice(["acme", "bolt"], len(prices))}
    index = OutfitIndex.build(folder, CODES, outfits[:2000], attributes=about)
    index.append(outfits[2000:])
    index.remove(rng.choice(3000, 200, replace=False))
    return folder, index


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.outfits.tolist() == other.outfits.tolist()
        assert one.scores.tolist() == other.scores.tolist()
        assert one.items.tolist() == other.items.tolist()
        assert one.emptied_by == other.emptied_by
