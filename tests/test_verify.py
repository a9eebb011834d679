"""`fhn-jax verify`: everything that has a checksum, in one command."""

import fhn_jax.data_tools.build_lmdb as tool
import numpy as np
import pytest
from polyvore_u import write_polyvore_u
from random_codes import latents_of, random_codes
from test_checkpoint import state_of

from fhn_jax.cli.verify import main
from fhn_jax.data.images import open_images
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.pixels import host_table
from fhn_jax.errors import UserError
from fhn_jax.files import write_sealed
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.pair_bounds import PairBounds
from fhn_jax.training.checkpoint import Checkpoints
from tests.test_search import some_outfits


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with one of each kind."""
    folder = tmp_path_factory.mktemp("everything")
    root, run = folder / "data", folder / "run"
    write_polyvore_u(root, positives=(2, 1, 1), items=(5, 5, 5))
    images = root / "images"
    names = read_catalogue(root, "8").item_names()
    host_table(images / "decoded_16.npy", open_images(root), names, 16)
    tool.build_lmdb(images / "291x291", images / "lmdb")
    codes = random_codes(counts=(9, 8, 7), num_users=4, bits=64)
    run.mkdir()
    latents_of(codes).save_with(run, codes)
    for name in ("config.json", "results.json"):
        write_sealed(run / name, {"a": [1, 0.1]})
    with Checkpoints(run / "checkpoints") as checkpoints:
        checkpoints.save(state_of(3), {"data": "a", "schedule": {}}, 0.5)
    outfits = some_outfits(np.random.default_rng(0), codes, 300)
    about = {"price": range(24), "brand": ["acme"] * 24}
    index = OutfitIndex.build(folder / "index", codes, outfits, attributes=about)
    index.attributes.change({"price": {"top": {0: 7}}})
    tables = ItemTables.from_codes(codes)
    PairBounds.build(tables).save(folder / "bounds", tables)
    return folder


def test_a_folder_is_verified_whole(whole, capsys):
    main([str(whole)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and all("as they were" in x or "as it" in x for x in lines)
    assert f"{whole}/run/checkpoints: checkpoints 3 are as they were written" in lines
    assert f"{whole}/data/images/lmdb: an LMDB, 45 values are as they " in "".join(
        lines
    )


PARTS = [
    "run/codes.safetensors",
    "run/latents.safetensors",
    "run/config.json",
    "run/results.json",
    "index/segment-1/items.npy",
    "index/attributes/0-1-texts.npy",
    "index/attributes/changes-0",
    "bounds/pairs.npy",
    "data/images/decoded_16.npy",
]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_damaged_is_named(whole, part):
    path = whole / part
    data = path.read_bytes()
    place = len(data) - 200 if part.endswith("16.npy") else len(data) - 9
    try:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(UserError, match=str(path)):
            main([str(whole)])
    finally:
        path.write_bytes(data)


def test_an_index_is_verified_with_its_attributes(whole, capsys):
    main([str(whole / "index")])
    of_index, of_attributes = capsys.readouterr().out.splitlines()
    assert f"{whole}/index: an index of outfits, " in of_index
    assert "attributes of items, and 1 changes, are as they were" in of_attributes


def test_what_has_no_checksum_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing: no such file or folder"):
        main([str(tmp_path / "nothing")])
    with pytest.raises(UserError, match="holds nothing that has a checksum"):
        main([str(tmp_path)])


def test_arrays_of_another_checkpoint_are_noticed(tmp_path):
    with Checkpoints(tmp_path / "a") as a, Checkpoints(tmp_path / "b") as b:
        a.save(state_of(1), {})
        b.save(state_of(1, 2.0), {})
    metadata = "1/_CHECKPOINT_METADATA"
    (tmp_path / "a" / metadata).write_bytes((tmp_path / "b" / metadata).read_bytes())
    with Checkpoints(tmp_path / "a") as a:
        with pytest.raises(
            UserError, match="checkpoint .*a/1 is damaged: the checksum"
        ):
            a.verify()
