import dataclasses
import errno
import os

import jax.numpy as jnp
import numpy as np
import pytest
from polyvore_u import write_polyvore_u
from runs import chunks_of, load, settings

from fhn_jax.codes import Codes, Latents, unpack
from fhn_jax.data.items import ItemInputs
from fhn_jax.models.hashing import Hash
from fhn_jax.training import build, export
from fhn_jax.training.export import ItemEncoder, all_items, make_codes


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny", image_size=None)


@dataclasses.dataclass
class Case:
    """A network that was not trained, and what it sees."""

    config: object
    catalogue: object
    inputs: ItemInputs
    model: object

    def encoder(self, chunk=16, inputs=None):
        return ItemEncoder(
            self.model,
            inputs or self.inputs,
            chunk=chunk,
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
        )

    def encode(self, chunk=16, inputs=None, items=None):
        items = items or all_items(self.catalogue)
        encoder = self.encoder(chunk, inputs)
        return encoder(self.model, items, self.catalogue.offsets)

    def codes(self, latents, beta=1.0, size=10**9, **options):
        return make_codes(
            self.model,
            chunks_of(latents, size),
            self.catalogue,
            beta=beta,
            config_hash="c" * 12,
            **options,
        )


@pytest.fixture(scope="module")
def make_case(root):
    def make(**overrides):
        config = settings(
            root, {key.replace("__", "."): value for key, value in overrides.items()}
        )
        catalogue, inputs = load(config)
        model = build.make_model(config, catalogue, **inputs.dims)
        return Case(config, catalogue, inputs, model)

    return make


@pytest.fixture(scope="module")
def case(make_case):
    return make_case()


def draw_latents(catalogue, bits=16, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "text": tuple(
            rng.normal(size=(len(names), bits)).astype(np.float32)
            for names in catalogue.names
        )
    }


def test_latents_are_those_of_the_head_of_the_category(case):
    latents = case.encode()
    table = np.asarray(case.inputs.tables["text"])
    for category, z in enumerate(latents["text"]):
        start, end = case.catalogue.offsets[category : category + 2]
        expected = case.model.head("text", category)(jnp.asarray(table[start:end]))
        np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-7)


def test_every_item_is_encoded_exactly_once(case, monkeypatch):
    encoded = []
    stream = ItemInputs.stream

    def counted(self, batches):
        def noted():
            for ids, batch in batches:
                assert len(ids) == 20
                encoded.extend(ids[ids >= 0].tolist())
                yield ids, batch

        return stream(self, noted())

    monkeypatch.setattr(ItemInputs, "stream", counted)
    latents = case.encode(chunk=20)
    assert encoded == list(range(case.catalogue.num_items))
    assert [len(z) for z in latents["text"]] == [len(n) for n in case.catalogue.names]


def test_the_size_of_chunks_changes_nothing(case):
    for one, other in zip(
        case.encode(chunk=7)["text"], case.encode(chunk=32)["text"], strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_streamed_text_is_encoded_as_resident_text(case):
    table = np.asarray(case.inputs.tables["text"])
    streamed = dataclasses.replace(case.inputs, tables={}, text=table)
    for one, other in zip(
        case.encode(inputs=streamed)["text"], case.encode()["text"], strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_some_items_get_the_rows_they_have_among_all(case):
    some = (
        np.array([3, 31], np.int32),
        np.array([], np.int32),
        np.array([0], np.int32),
    )
    latents, everything = case.encode(items=some)["text"], case.encode()["text"]
    assert [z.shape for z in latents] == [(2, 16), (0, 16), (1, 16)]
    np.testing.assert_allclose(latents[0], everything[0][[3, 31]], rtol=1e-5)
    np.testing.assert_allclose(latents[2], everything[2][[0]], rtol=1e-5)


def test_progress_ends_at_all_items(case):
    seen = []
    chunks = case.encoder(chunk=20).stream(
        case.model,
        all_items(case.catalogue),
        case.catalogue.offsets,
        lambda done, total: seen.append((done, total)),
    )
    rows = [(category, rows.start, rows.stop) for category, rows, _ in chunks]
    assert rows[:3] == [(0, 0, 20), (0, 20, 32), (1, 0, 20)]
    assert seen == [(n, 96) for n in (20, 32, 52, 64, 84, 96)]


def test_codes_are_the_signs_of_the_latents(case):
    latents = draw_latents(case.catalogue)
    latents["text"][0][0, :3] = (0.0, -0.0, -1e-30)
    codes, relaxed = case.codes(latents)
    for z, packed, r in zip(
        latents["text"], codes.items["text"], relaxed.items["text"], strict=True
    ):
        np.testing.assert_array_equal(unpack(packed, 16), np.where(z >= 0, 1, -1))
        np.testing.assert_array_equal(r, np.clip(z, -1, 1))
    assert unpack(codes.items["text"][0], 16)[0, :3].tolist() == [1, 1, -1]
    users = np.asarray(case.model.user.embedding[...])
    np.testing.assert_array_equal(unpack(codes.users, 16), np.where(users >= 0, 1, -1))
    np.testing.assert_array_equal(codes.user_latents, np.clip(users, -1, 1))
    assert codes.item_scales is None


def test_relaxed_codes_have_the_slope_of_the_epoch(make_case):
    case = make_case(model__hash="tanh", loss__binary_share=0.0)
    latents = draw_latents(case.catalogue)
    codes, relaxed = case.codes(latents, beta=3.0)
    np.testing.assert_allclose(
        relaxed.items["text"][1], np.tanh(3 * latents["text"][1]), rtol=1e-5
    )
    users = np.asarray(case.model.user.embedding[...])
    np.testing.assert_allclose(codes.user_latents, np.tanh(3 * users), rtol=1e-5)


def test_scaled_codes_carry_the_mean_size_of_each_item(make_case):
    case = make_case(model__item_scale=True)
    latents = draw_latents(case.catalogue)
    codes, relaxed = case.codes(latents)
    for z, scale in zip(latents["text"], codes.item_scales["text"], strict=True):
        expected = np.abs(np.tanh(z)).mean(axis=1)
        np.testing.assert_allclose(scale, expected.astype(np.float16), rtol=1e-3)
    # The relaxed code is never scaled.
    np.testing.assert_array_equal(
        relaxed.items["text"][0], np.clip(latents["text"][0], -1, 1)
    )


@pytest.mark.parametrize("hash_types", range(4))
def test_weights_are_ones_where_none_are_learned(make_case, hash_types):
    case = make_case(model__matching__hash_types=hash_types)
    matching = case.model.matching
    for name in ("lambda_user", "lambda_item", "alpha"):
        if getattr(matching, name) is not None:
            getattr(matching, name)[...] = jnp.full_like(getattr(matching, name), 0.5)
    codes, _ = case.codes(draw_latents(case.catalogue))
    assert codes.hash_types == hash_types
    assert set(codes.lambda_user) == {0.5 if hash_types in (1, 3) else 1}
    assert set(codes.lambda_item) == {0.5 if hash_types in (2, 3) else 1}
    assert codes.alpha == (0.5 if hash_types == 0 else 1)


def test_codes_say_what_they_are_of(case):
    codes, _ = case.codes(draw_latents(case.catalogue))
    assert codes.dataset == case.catalogue.dataset == "tiny"
    assert codes.dataset_checksum == case.catalogue.checksum
    assert codes.names == case.catalogue.names
    assert (codes.categories, codes.slots) == (("top", "bottom", "shoe"), (0, 1, 2))
    assert codes.modalities == ("text",)
    assert (codes.bits, codes.alphabet) == (16, Hash("ste").alphabet)


def test_saved_codes_and_latents_belong_together(case, tmp_path):
    codes, relaxed = case.codes(draw_latents(case.catalogue))
    codes.save(tmp_path / "codes.safetensors")
    relaxed.save(tmp_path / "latents.safetensors", codes)
    loaded = Codes.load(tmp_path / "codes.safetensors")
    assert loaded.sha256() == codes.sha256()
    latents = Latents.load(tmp_path / "latents.safetensors", loaded)
    np.testing.assert_array_equal(latents.items["text"][0], relaxed.items["text"][0])


def test_codes_streamed_to_the_disk_are_those_in_memory_byte_for_byte(
    make_case, tmp_path, monkeypatch
):
    case = make_case(model__hash="tanh", model__item_scale=True, loss__binary_share=0.0)
    latents = draw_latents(case.catalogue)
    whole = case.codes(latents, beta=3.0)
    monkeypatch.setattr(export, "_IN_MEMORY", 0)
    scratch = tmp_path / "streamed" / "latents.safetensors"
    streamed = case.codes(latents, beta=3.0, size=7, scratch=scratch)
    assert list(scratch.parent.iterdir()) == []  # What is there has no name.
    for name, (codes, relaxed) in {"whole": whole, "streamed": streamed}.items():
        relaxed.save_with(tmp_path / name, codes)
    for name in ("codes.safetensors", "latents.safetensors"):
        one, other = (tmp_path / each / name for each in ("whole", "streamed"))
        assert one.read_bytes() == other.read_bytes()


def test_a_full_disk_is_an_error_that_names_the_latents(case, tmp_path, monkeypatch):
    def full(handle, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "_IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    scratch = tmp_path / "latents.safetensors"
    with pytest.raises(OSError, match=f"No space left .*'{scratch}'"):
        case.codes(draw_latents(case.catalogue), scratch=scratch)
    assert list(tmp_path.iterdir()) == []


def test_latents_that_are_not_finite_are_refused(case):
    latents = draw_latents(case.catalogue)
    latents["text"][1][3, 2] = np.nan
    with pytest.raises(
        FloatingPointError, match="text latents are not finite; .* lower"
    ):
        case.codes(latents)


def test_users_are_encoded_a_chunk_at_a_time(case, monkeypatch):
    latents = draw_latents(case.catalogue)
    at_once, _ = case.codes(latents)
    monkeypatch.setattr(export, "_USERS", 3)
    in_chunks, _ = case.codes(latents)
    assert in_chunks.num_users > 3
    assert in_chunks.identity == at_once.identity
    np.testing.assert_array_equal(in_chunks.user_latents, at_once.user_latents)
