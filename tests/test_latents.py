"""The file of relaxed item codes: saving, and checks when it is made or loaded."""

import contextlib
import itertools
import os
import tracemalloc

import numpy as np
import pytest

from fhn_jax.codes import Codes, Latents, Scorer
from tests.random_codes import latents_of, random_codes


def test_latents_load_what_was_saved(tmp_path):
    codes = random_codes()
    latents = latents_of(codes)
    latents.save(tmp_path / "latents.safetensors", codes)
    loaded = Latents.load(tmp_path / "latents.safetensors", codes)
    for modality in codes.modalities:
        for one, other in zip(
            loaded.items[modality], latents.items[modality], strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_latents_are_checked_and_saved_without_a_copy(tmp_path):
    codes = random_codes(counts=(40_000, 10, 10), bits=64, modalities=("text",))
    arrays = latents_of(codes).items["text"]
    tracemalloc.start()
    try:
        latents = Latents({"text": arrays}, codes.sha256())
        latents.save(tmp_path / "latents.safetensors", codes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert arrays[0].nbytes > 10_000_000 and peak < 3_000_000


def test_loading_and_scoring_take_no_memory_for_all_latents(tmp_path):
    codes = random_codes(counts=(40_000, 10, 10), bits=64, modalities=("text",))
    latents = latents_of(codes)
    latents.save(tmp_path / "latents.safetensors", codes)
    users, items = np.arange(6), np.array([[39_999 - i, i, i] for i in range(6)])
    expected = Scorer(codes, latents).score("relaxed", users, items)
    tracemalloc.start()
    try:
        loaded = Latents.load(tmp_path / "latents.safetensors", codes)
        scores = Scorer(codes, loaded).score("relaxed", users, items)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert loaded.items["text"][0].nbytes > 10_000_000 and peak < 3_000_000
    np.testing.assert_array_equal(scores, expected)
    # Another export replaces the file; who has the old one open goes on with it.
    Latents(latents.items, codes.sha256()).save(tmp_path / "latents.safetensors", codes)
    np.testing.assert_array_equal(loaded.items["text"][0], latents.items["text"][0])


@pytest.mark.parametrize(("value", "says"), [(np.nan, "finite"), (3e7, "magnitudes")])
def test_a_wrong_value_far_down_is_named(value, says):
    latents = np.zeros((20_000, 64), np.float32)
    latents[17_000, 5] = value
    with pytest.raises(ValueError, match=rf"at \[17000, 5\], expected {says}"):
        Latents({"text": (latents,)}, "")


def test_latents_of_other_codes_are_rejected(tmp_path):
    codes, others = random_codes(), random_codes(seed=1)
    path = tmp_path / "latents.safetensors"
    latents_of(others).save(path, others)
    with pytest.raises(ValueError, match=f"codes_sha256 is '{others.sha256()}'"):
        Latents.load(path, codes)
    with pytest.raises(ValueError, match="codes_sha256"):
        Scorer(codes, latents_of(others))
    with pytest.raises(ValueError, match="codes_sha256"):
        latents_of(others).save(path, codes)


def test_codes_are_no_latents(tmp_path):
    codes = random_codes()
    codes.save(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="format is 'fhn_jax.codes', expected"):
        Latents.load(tmp_path / "x.safetensors", codes)


def test_latents_that_are_not_finite_are_rejected():
    latents = np.full((5, 16), np.nan, np.float32)
    with pytest.raises(ValueError, match="latents/text/0 holds nan"):
        Latents({"text": (latents,)}, "")


def test_latents_of_another_size_are_rejected():
    codes = random_codes()
    items = dict(latents_of(codes).items)
    items["text"] = (items["text"][1],) * 3
    with pytest.raises(ValueError, match="latents/text/top is float32"):
        Latents(items, codes.sha256()).check(codes)


def test_codes_and_latents_change_together_whenever_that_ends(tmp_path, monkeypatch):
    pairs = [(random_codes(seed), latents_of(random_codes(seed))) for seed in (0, 1)]
    (old, old_latents), (new, new_latents) = pairs
    replace, found = os.replace, []
    for last in range(4):
        old_latents.save_with(tmp_path, old)
        calls = itertools.count()

        def limited(source, target, calls=calls, last=last):
            if next(calls) >= last:
                raise OSError("killed")
            replace(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", limited)
            with contextlib.suppress(OSError):
                new_latents.save_with(tmp_path, new)
        codes = Codes.load(tmp_path / "codes.safetensors")
        relaxed = Latents.beside(tmp_path, codes)
        assert relaxed is not None and relaxed.codes_sha256 == codes.sha256()
        found.append(codes.sha256() == new.sha256())
    assert found == [False, False, True, True]
    Latents.remove(tmp_path)
    assert Latents.beside(tmp_path, codes) is None
