"""Settings that follow from a shop's data, and the whole job with them."""

import json
import shutil

import pytest
import shops
from fhn_jax.configs import shop
from fhn_jax.data_tools.import_catalogue import import_catalogue

from fhn_jax.data.facts import data_facts
from fhn_jax.errors import InputError
from fhn_jax.main import main

FACTS = dict(
    items=1000,
    likes=4000,
    photos=True,
    cut_outs=False,
    text=["title"],
    features=[],
    disliked=False,
)


def chosen(arg=None, **facts):
    config, said = shop.choose(FACTS | facts, arg)
    return config, "\n".join(said)


def test_the_modalities_are_those_that_the_data_have():
    config, said = chosen()
    assert tuple(config.model.modalities) == ("visual", "text")
    assert config.model.backbone.name == "tiny" and config.data.text == "title"
    assert "backbone=tiny: a small network for photos" in said
    assert "masked" not in config.model.backbone and "masked" not in said
    config, said = chosen(cut_outs=True)
    assert config.model.backbone.masked and "sees the garments alone" in said
    config, said = chosen("backbone=resnet18", cut_outs=True)
    assert config.model.backbone.name == "resnet18" and "masked" not in said
    config, said = chosen("masked=false", cut_outs=True)
    assert "masked" not in config.model.backbone and "masked" not in said
    config, said = chosen(photos=False)
    assert tuple(config.model.modalities) == ("text",)
    assert "modalities=text: there is nothing else" in said
    config, _ = chosen(features=["clip"], text=[])
    assert config.data.features == "clip"
    assert config.model.backbone.name == "precomputed"
    with pytest.raises(InputError, match="nothing to train on"):
        chosen(photos=False, text=[])


def test_sizes_follow_from_the_number_of_items_and_likes():
    small, _ = chosen()
    large, said = chosen(items=1_000_000, likes=8_000_000)
    assert (small.model.bits, large.model.bits) == (256, 128)
    assert (small.train.epochs, large.train.epochs) == (20, 5)
    assert (small.train.batch_size, large.train.batch_size) == (256, 2048)
    assert "1,000,000 items and 8,000,000 likes" in said


def test_the_argument_wins():
    config, _ = chosen("bits=64,text=other")
    assert config.model.bits == 64 and config.data.text == "other"


@pytest.mark.parametrize(("likes", "size"), [(1, 1), (32, 32), (63, 32), (64, 64)])
def test_no_batch_is_larger_than_all_likes(likes, size):
    assert chosen(likes=likes)[0].train.batch_size == size


def test_what_is_given_is_not_said_to_be_chosen():
    given = {"train.epochs": 2, "model.bits": 64, "data.text": "own"}
    config, lines = shop.choose(FACTS, given=given)
    said = "\n".join(lines)
    assert "train.batch_size=256: 1,000 items" in said and config.train.epochs == 20
    assert not [key for key in ("epochs", "bits=", "text=") if key in said]
    assert "bits=" not in chosen("bits=64")[1]
    assert "text=" not in chosen("text=other")[1]
    sizes = {"train.epochs": 2, "train.batch_size": 8}
    assert "train." not in "".join(shop.choose(FACTS, given=sizes)[1])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    pytest.importorskip("duckdb")
    place = tmp_path_factory.mktemp("shop")
    tables = dict(items=shops.items(), likes=shops.wide_likes(each=10))
    import_catalogue(shops.write(place / "shop", **tables), place / "data")
    return place / "data"


def test_facts_are_those_of_the_data(root):
    assert data_facts(root, "shop") == {
        **dict(items=24, likes=32, photos=False, text=["title"], features=[]),
        "disliked": False,
        "cut_outs": False,
    }


def test_cut_outs_are_a_fact(root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    (tmp_path / "data" / "images" / "cutouts").mkdir(parents=True)
    assert data_facts(tmp_path / "data", "shop")["cut_outs"] is True


@pytest.mark.slow
def test_a_shop_is_trained_evaluated_and_reported(root, tmp_path, capfd):
    data = [f"--config.data.root={root}", "--config.wandb.mode=disabled"]
    main(["--config", "shop:smoke", *data, "--workdir", str(tmp_path / "run")])
    said = capfd.readouterr().err
    assert f"settings for {root}:" in said and "text=title" in said
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["modalities"] == ["text"]
    assert config["data"]["variant"] == "shop" and "demo" not in config
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["positives"] == 4
    assert (tmp_path / "run" / "report" / "index.html").is_file()
