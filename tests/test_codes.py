"""The codes artifact: saving, checks when it is made or loaded."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from fhn_jax.codes import Codes, Latents, pack, unpack
from fhn_jax.codes import latents as latents_module
from fhn_jax.errors import InputError
from tests.random_codes import latents_of, random_codes


def parts(data):
    """Metadata and tensors of the bytes of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"], safetensors.numpy.load(
        data
    )


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("names", [True, False])
def test_load_returns_what_was_saved(tmp_path, scaled, names):
    codes = random_codes(scaled=scaled)
    if not names:
        codes = random_codes(scaled=scaled, names=None)
    codes.save(tmp_path / "codes.safetensors")
    loaded = Codes.load(tmp_path / "codes.safetensors")
    for key in ("bits", "alphabet", "modalities", "categories", "slots", "names"):
        assert getattr(loaded, key) == getattr(codes, key)
    for key in ("hash_types", "zero_item_term", "dataset", "config_hash", "alpha"):
        assert getattr(loaded, key) == getattr(codes, key)
    for key in ("users", "user_latents", "lambda_user", "lambda_item"):
        np.testing.assert_array_equal(getattr(loaded, key), getattr(codes, key))
    for modality in codes.modalities:
        for category in range(3):
            np.testing.assert_array_equal(
                loaded.items[modality][category], codes.items[modality][category]
            )
            if scaled:
                np.testing.assert_array_equal(
                    loaded.item_scales[modality][category],
                    codes.item_scales[modality][category],
                )
    assert (loaded.item_scales is None) != scaled


def test_names_may_hold_any_characters_but_a_line_end(tmp_path):
    names = (("é ü.jpg", "日本\t.jpg", " a", "<b>", "'"), ("x",) * 0, ("c",))
    codes = random_codes(counts=(5, 0, 1), names=names)
    codes.save(tmp_path / "codes.safetensors")
    assert Codes.load(tmp_path / "codes.safetensors").names == names


def test_file_has_the_documented_tensors_and_metadata():
    metadata, tensors = parts(random_codes(scaled=True).to_bytes())
    assert metadata["format"] == "fhn_jax.codes" and metadata["version"] == "1"
    assert metadata["bits"] == "16" and metadata["alphabet"] == '"pm1"'
    assert json.loads(metadata["slots"]) == [0, 1, 2]
    shapes = {name: (t.dtype.name, t.shape) for name, t in tensors.items()}
    assert shapes["items/visual/top"] == ("uint8", (5, 2))
    assert shapes["scales/text/shoe"] == ("float16", (3,))
    assert shapes["users/codes"] == ("uint8", (6, 2))
    assert shapes["users/latents"] == ("float32", (6, 16))
    assert shapes["lambda_user"] == ("float32", (16,))
    assert shapes["alpha"] == ("float32", (1,))
    assert tensors["names/shoe"].tobytes() == b"shoe000.jpg\nshoe001.jpg\nshoe002.jpg"


def test_equal_codes_give_equal_files(tmp_path):
    codes = random_codes()
    codes.save(tmp_path / "a")
    Codes.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_128_bits_of_two_modalities_take_32_bytes_an_item():
    few, many = (
        random_codes(bits=128, counts=(n, 0, 0), names=None) for n in (100, 1100)
    )
    # 4 bytes of slack: digits of the shapes and offsets in the header.
    size = len(many.to_bytes()) - len(few.to_bytes())
    assert 32_000 <= size <= 32_016


def test_to_numpy_gives_the_codes_of_each_modality_and_category():
    code = np.array([[1] * 8 + [-1] * 8, [-1, 1] * 8], np.int8)
    codes = random_codes(
        modalities=("text",),
        counts=(2, 2, 2),
        items={"text": (pack(code), pack(-code), pack(code))},
    )
    assert list(codes.to_numpy()) == ["text"]
    np.testing.assert_array_equal(codes.to_numpy()["text"][1], -code)
    np.testing.assert_array_equal(codes.user_codes(), unpack(codes.users, 16))


def test_item_codes_are_scaled():
    codes = random_codes(scaled=True)
    for category, vectors in enumerate(codes.item_codes("text")):
        scales = codes.item_scales["text"][category].astype(np.float32)
        signs = unpack(codes.items["text"][category], 16)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, signs * scales[:, None])


def test_alpha_is_the_same_before_and_after_saving(tmp_path):
    codes = random_codes(hash_types=0, alpha=0.9)
    codes.save(tmp_path / "codes.safetensors")
    assert Codes.load(tmp_path / "codes.safetensors").alpha == codes.alpha
    assert abs(codes.alpha - 0.9) < 1e-7


# Bad codes. Each case: changed fields, text of the error.


def other_items(index, array):
    items = {m: list(a) for m, a in random_codes().items.items()}
    items["text"][index] = array
    return {m: tuple(a) for m, a in items.items()}


BAD_FIELDS = {
    "bits_not_of_8": ({"bits": 12}, "bits is 12, expected a positive multiple of 8"),
    "bits_zero": ({"bits": 0}, "bits is 0, expected"),
    "alphabet": ({"alphabet": "abc"}, "alphabet is 'abc', expected one of"),
    "no_modality": ({"modalities": (), "items": {}}, r"modalities is \(\)"),
    "modality_order": ({"modalities": ("text", "visual")}, "in this order"),
    "category_twice": (
        {"categories": ("top", "top", "shoe")},
        "different printable names",
    ),
    "category_slash": ({"categories": ("a/b", "c", "d")}, "without a slash"),
    "slot_unknown": ({"slots": (0, 1, 3)}, r"slots is \(0, 1, 3\)"),
    "slot_missing": ({"slots": (0, 1, 1)}, "each of .* at least once"),
    "template_unsorted": (
        {"templates": ((0, 2, 1),)},
        r"templates is \(\(0, 2, 1\),\), expected different sets of the slots",
    ),
    "template_slot": ({"templates": ((0, 1, 2), (3,))}, "templates is"),
    "template_twice": ({"templates": ((0, 1, 2), (0, 1, 2))}, "templates is"),
    "template_empty": ({"templates": ((), (0, 1, 2))}, "templates is"),
    "slot_of_none": ({"templates": ((0, 1),)}, "each slot in one at least"),
    "two_tops": (
        {"slots": (0, 0, 1, 2), "templates": ((0, 1, 2, 3), (0, 2, 3))},
        "expected all slots together, .* as two are of one category",
    ),
    "hash_types": ({"hash_types": 4}, "hash_types is 4, expected 0, 1, 2 or 3"),
    "width": (
        {"items": other_items(1, np.zeros((4, 3), np.uint8))},
        r"items/text/bottom is uint8 \[4, 3\], expected uint8 \[4, 2\]",
    ),
    "count": (
        {"items": other_items(0, np.zeros((9, 2), np.uint8))},
        r"items/text/top is uint8 \[9, 2\], expected uint8 \[5, 2\]",
    ),
    "dtype": (
        {"items": other_items(2, np.zeros((3, 2), np.int64))},
        r"items/text/shoe is int64 \[3, 2\], expected uint8",
    ),
    "user_width": (
        {"users": np.zeros((6, 4), np.uint8)},
        r"users is uint8 \[6, 4\], expected uint8 \[\?, 2\]",
    ),
    "user_count": (
        {"user_latents": np.zeros((5, 16), np.float32)},
        r"user_latents is float32 \[5, 16\], expected float32 \[6, 16\]",
    ),
    "nan_latent": (
        {"user_latents": np.full((6, 16), np.nan, np.float32)},
        r"user_latents holds nan at \[0, 0\]",
    ),
    "nan_lambda": (
        {"lambda_item": np.full(16, np.inf, np.float32)},
        r"lambda_item holds inf at \[0\]",
    ),
    "nan_alpha": ({"hash_types": 0, "alpha": float("nan")}, "alpha is nan"),
    "unlearned": (
        {"hash_types": 1, "lambda_item": np.full(16, 2, np.float32)},
        "lambda_item holds 2.0, expected 1: hash_types=1 does not learn it",
    ),
    "alpha_unlearned": ({"alpha": 0.5}, "alpha holds 0.5, expected 1"),
    "scales": (
        {
            "item_scales": {
                m: (np.full(5, np.nan, np.float16),) * 3 for m in ("visual", "text")
            }
        },
        "item_scales/visual/top holds nan",
    ),
    "names_twice": (
        {"names": (("a",) * 5, tuple("abcd"), tuple("abc"))},
        r"names/top\[1\] is 'a', expected a name used once",
    ),
    "name_count": ({"names": (("a",), ("b",), ("c",))}, "one name an item"),
    "name_line": (
        {"names": (tuple("abcd") + ("e\nf",), tuple("abcd"), tuple("abc"))},
        "on one line",
    ),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_inconsistent_codes_are_rejected(case):
    changes, text = BAD_FIELDS[case]
    with pytest.raises(ValueError, match=text):
        if "hash_types" in changes or "bits" in changes:
            good = vars(random_codes(hash_types=0 if case == "nan_alpha" else 3))
            Codes(**good | changes)
        else:
            random_codes(**changes)


# Bad files.


def test_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file.*extract-features"):
        Codes.load(tmp_path / "codes.safetensors")


def npz_bytes(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    return (tmp_path / "x.npz").read_bytes()


FOREIGN = {
    "empty": lambda _: b"",
    "garbage": lambda _: bytes(range(256)) * 8,
    "text": lambda _: b"not a safetensors file at all\n" * 10,
    "pickle": lambda _: pickle.dumps({"codes": list(range(100))}),
    "npz": npz_bytes,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_rejected(tmp_path, kind):
    path = tmp_path / "codes.safetensors"
    path.write_bytes(FOREIGN[kind](tmp_path))
    with pytest.raises(ValueError, match="not a whole safetensors file") as error:
        Codes.load(path)
    assert str(path) in str(error.value) and "extract-features" in str(error.value)


def test_pickles_are_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "codes.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        Codes.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_truncated_files_are_rejected(tmp_path, share):
    data = random_codes().to_bytes()
    path = tmp_path / "codes.safetensors"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        Codes.load(path)


def rewritten(tmp_path, metadata=None, tensors=None, drop=()):
    """The path of a codes file with some metadata or tensors changed."""
    old_metadata, old_tensors = parts(random_codes().to_bytes())
    new_metadata = old_metadata | (metadata or {})
    new_tensors = old_tensors | (tensors or {})
    # Files of other programs have no checksum.
    for key in ("sha256", *drop):
        new_metadata.pop(key, None)
        new_tensors.pop(key, None)
    path = tmp_path / "codes.safetensors"
    safetensors.numpy.save_file(new_tensors, path, new_metadata)
    return path


BAD_FILES = {
    "other_format": ({"metadata": {"format": "x"}}, "format is 'x', expected 'fhn_"),
    "no_format": ({"drop": ["format"]}, "format is None, expected"),
    "newer": ({"metadata": {"version": "2"}}, "version is '2', .* update fhn_jax"),
    "odd_version": ({"metadata": {"version": "²"}}, "version is '²', expected '1'"),
    "long_version": ({"metadata": {"version": "9" * 5000}}, "version is '9"),
    "no_version": ({"drop": ["version"]}, "version is '', expected '1'"),
    "no_bits": ({"drop": ["bits"]}, "metadata bits is missing"),
    "bits_text": ({"metadata": {"bits": "x"}}, "metadata bits is 'x', expected JSON"),
    "bits_12": ({"metadata": {"bits": "12"}}, "bits is 12, expected a positive mult"),
    "bits_huge": ({"metadata": {"bits": "8" * 20}}, "items/visual/top is uint8"),
    "bits_list": ({"metadata": {"bits": "[8]"}}, r"bits is \(8,\), expected"),
    "modality": ({"metadata": {"modalities": "7"}}, "modalities is 7, expected"),
    "categories": ({"metadata": {"categories": "[1]"}}, r"categories is \(1,\)"),
    "slots": ({"metadata": {"slots": '"abc"'}}, "slots is 'abc', expected"),
    "hash_types": ({"metadata": {"hash_types": "4"}}, "hash_types is 4, expected"),
    "a whole float": ({"metadata": {"hash_types": "1.0"}}, "hash_types is 1.0, expe"),
    "ablation": (
        {"metadata": {"zero_item_term": "1"}},
        "zero_item_term is 1, expected true or false",
    ),
    "dataset": (
        {"metadata": {"dataset": "3"}},
        "dataset is 3, expected a printable string",
    ),
    "deep": ({"metadata": {"slots": "[" * 10**5}}, "metadata slots is .*expected JSON"),
    "no_users": ({"drop": ["users/codes"]}, "tensor users/codes is missing"),
    "no_names": ({"drop": ["names/top"]}, "tensor names/top is missing"),
    "extra": (
        {"tensors": {"extra": np.zeros(2)}},
        r"tensors is \['extra'\], expected none besides",
    ),
    "alpha": (
        {"tensors": {"alpha": np.zeros(2, np.float32)}},
        r"alpha is float32 \[2\], expected float32 \[1\]",
    ),
    "not_utf8": (
        {"tensors": {"names/top": np.full(9, 255, np.uint8)}},
        "names/top is not UTF-8",
    ),
    "user_dtype": (
        {"tensors": {"users/latents": np.zeros((6, 16))}},
        r"user_latents is float64 \[6, 16\], expected float32 \[6, 16\]",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD_FILES)
def test_wrong_files_name_the_key(tmp_path, case):
    changes, text = BAD_FILES[case]
    path = rewritten(tmp_path, **changes)
    with pytest.raises(ValueError, match=text) as error:
        Codes.load(path)
    assert str(error.value).startswith(str(path))


def test_types_that_numpy_lacks_are_rejected(tmp_path):
    data = random_codes().to_bytes()
    path = tmp_path / "codes.safetensors"
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["users/codes"]["dtype"] = "F8_E5M2"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    with pytest.raises(ValueError, match="not a whole safetensors file|users is"):
        Codes.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "codes.safetensors"
    codes = random_codes()
    codes.save(path)
    old = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        random_codes(seed=1).save(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def flipped(data, at, bit):
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def same(a, b):
    return a.sha256() == b.sha256()


@pytest.mark.parametrize("what", ["codes", "latents"])
def test_no_flipped_bit_goes_unnoticed(tmp_path, what):
    codes = random_codes(scaled=True)
    path = tmp_path / f"{what}.safetensors"
    if what == "codes":
        codes.save(path)
        load, first = lambda: Codes.load(path), None
    else:
        latents_of(codes).save(path, codes)
        load = lambda: Latents.load(path, codes)  # noqa: E731
        first = load()
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.choice(len(data), 300, replace=False):
        path.write_bytes(flipped(data, at, rng.integers(8)))
        try:
            loaded = load()
        except ValueError as error:
            assert str(path) in str(error)
            continue
        # Spaces of the header's end, and the like.
        if first is None:
            assert same(loaded, codes)
        else:
            for a, b in zip(loaded.items["text"], first.items["text"], strict=True):
                np.testing.assert_array_equal(a, b)


def test_the_checksum_is_that_of_a_file_without_one(tmp_path):
    """So that latents and databases of codes without a checksum still fit them."""
    codes = random_codes()
    metadata, tensors = parts(codes.to_bytes())
    assert metadata["sha256"] == codes.sha256()
    safetensors.numpy.save_file(
        tensors, tmp_path / "old", {k: v for k, v in metadata.items() if k != "sha256"}
    )
    assert Codes.load(tmp_path / "old").sha256() == codes.sha256()
    metadata["sha257"] = metadata.pop("sha256")
    safetensors.numpy.save_file(tensors, tmp_path / "key", metadata)
    with pytest.raises(ValueError, match=r"metadata is \['sha257'\], expected none"):
        Codes.load(tmp_path / "key")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "user_latents",
            5.9e35,
            r"user_latents holds 5.9e\+35 at \[0, 0\], .* to 16,777",
        ),
        ("lambda_user", -2e7, r"lambda_user holds -2e\+07 at \[0\], expected magn"),
        ("item_scales", 62_500, "item_scales/visual/0 holds 62496 at .* up to 1,024"),
        ("item_scales", -1, "item_scales/visual/0 is -1.0, expected 0 or more"),
    ],
)
def test_finite_values_beyond_reason_are_refused(field, value, message):
    codes = random_codes(scaled=True)
    array = getattr(codes, field)
    (array if field != "item_scales" else array["visual"][0]).flat[0] = value
    with pytest.raises(ValueError, match=message):
        Codes(**{f.name: getattr(codes, f.name) for f in dataclasses.fields(codes)})


def test_a_category_without_items_says_nothing_of_users():
    rng = np.random.default_rng(0)
    near = 5 + 0.01 * rng.normal(size=(20, 8))
    users = 5 + 0.01 * rng.normal(size=(4, 8))
    alone = Codes.from_embeddings({"top": near}, users=users)
    beside = Codes.from_embeddings({"top": near, "bag": near[:0]}, users=users)
    np.testing.assert_array_equal(alone.user_latents, beside.user_latents)
    assert (alone.user_latents < 0).any() and (alone.user_latents > 0).any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"names": {"top": ["a", "b"]}}, "names is .*expected item names of"),
        (
            {"weights": (1.0, np.ones(3))},
            r"weights are \[3\], expected a number or \[8\]",
        ),
    ],
)
def test_names_and_weights_of_embeddings_are_checked(options, message):
    vectors = {"top": np.ones((2, 8)), "shoe": np.ones((3, 8))}
    with pytest.raises(InputError, match=message):
        Codes.from_embeddings(vectors, **options)


def test_latents_that_come_while_they_are_looked_for_are_found(tmp_path, monkeypatch):
    codes = random_codes()
    latents = latents_of(codes)
    latents.save_with(tmp_path, codes)
    (tmp_path / "latents.safetensors").rename(tmp_path / latents_module._NEXT)
    exists = type(tmp_path).exists

    def renamed_meanwhile(path):
        found = exists(path)
        if path.name == latents_module._NEXT and found:
            path.rename(path.with_name(latents_module.FILE))
        return found

    monkeypatch.setattr(type(tmp_path), "exists", renamed_meanwhile)
    assert Latents.beside(tmp_path, codes) is not None
