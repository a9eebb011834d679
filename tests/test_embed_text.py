"""Text vectors from titles: `data_tools/embed_text.py` and its models."""

import json
import sys
import types

import numpy as np
import polyvore_u
import pytest
import runs
from fhn_jax.data_tools.carry_vectors import carry_vectors
from fhn_jax.data_tools.embed_text import embed_text, main
from fhn_jax.data_tools.text_models import HashedText, make_text_model

from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.vector_files import write_vectors
from fhn_jax.data.vectors import read_features, read_text_vectors
from fhn_jax.errors import InputError, MissingFileError, MissingPackageError
from fhn_jax.files import sha256_file, write_text
from fhn_jax.training.inputs import load_inputs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data root without images, whose titles.json has a title for each item."""
    root = polyvore_u.write_polyvore_u(
        tmp_path_factory.mktemp("text") / "shop", image_size=None
    )
    titles = {name: f"Item {name[:-4]}" for name in catalogue(root).item_names()}
    write_text(root / "titles.json", json.dumps(titles))
    return root


def catalogue(root):
    return read_catalogue(root, "8")


def load(path):
    with np.load(path) as archive:
        return dict(zip(archive["names"].tolist(), archive["vectors"], strict=True))


def test_vectors_of_all_items_are_written_with_model_source_and_digest(data):
    path = embed_text(data)
    assert path == data / "vectors" / "title.npz"
    vectors = load(path)
    assert list(vectors) == list(catalogue(data).item_names())
    expected = HashedText()(["Item top003"])[0]
    np.testing.assert_array_equal(vectors["top003.jpg"], expected)
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "model": "hashed",
        "source": "title of titles.json",
        "digest": sha256_file(path),
    }


def test_the_same_titles_give_the_same_bytes(data):
    assert sha256_file(embed_text(data, "a")) == sha256_file(embed_text(data, "b"))


def test_a_csv_file_gives_several_columns_and_a_missing_title_gives_zeros(data, capsys):
    path = data / "titles.csv"
    path.write_text(
        "\ufeffname,title,brand\ntop000.jpg,Red shirt,Acme\n", encoding="utf-8"
    )
    main([str(data), "--name=own", "--columns", "title", "brand", f"--titles={path}"])
    assert "--config.data.text=own" in capsys.readouterr().out
    vectors = load(data / "vectors" / "own.npz")
    np.testing.assert_array_equal(
        vectors["top000.jpg"], HashedText()(["Red shirt Acme"])[0]
    )
    assert not vectors["top001.jpg"].any()


def test_items_parquet_gives_titles_and_attributes(data):
    duckdb = pytest.importorskip("duckdb")
    every = catalogue(data)
    rows = [
        (category, i, f"sku-{name}", None if i else f"Title {name}", f"brand {i}")
        for category, names in zip(every.categories, every.names, strict=True)
        for i, name in enumerate(names)
    ]
    with duckdb.connect() as database:
        database.execute(
            'CREATE TABLE t (category VARCHAR, "index" INT, id VARCHAR, title VARCHAR,'
            " brand VARCHAR)"
        )
        database.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
        database.execute(f"COPY t TO '{data / 'items.parquet'}' (FORMAT parquet)")
    vectors = load(embed_text(data, "table", columns=("title", "brand")))
    (data / "items.parquet").unlink()
    hashed = HashedText()(["Title bottom000.jpg brand 0", "brand 5"])
    np.testing.assert_array_equal(vectors["bottom000.jpg"], hashed[0])
    np.testing.assert_array_equal(vectors["shoe005.jpg"], hashed[1])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            "name,titel\na,b\n",
            {},
            "no column 'title', only titel; did you mean 'titel'",
        ),
        ("id,title\na,b\n", {}, "the columns are id, title; expected `name`"),
        ("name,title\na,b\na,c\n", {}, ":3: the name 'a' occurs twice"),
        ("name,title\na\n", {}, ":2: expected 2 columns"),
        ("name,title\nother.jpg,b\n", {}, "no item of .* has a text in title"),
        ("name,title\ntop000.jpg,b\n", {"name": "../a"}, "has a path separator"),
    ],
)
def test_titles_of_no_use_are_refused(data, content, options, message):
    path = data / "bad.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        embed_text(data, titles=path, **options)


def test_a_root_without_titles_or_items_says_what_is_expected(data, tmp_path):
    with pytest.raises(MissingFileError, match="no tuples_VARIANT/tuples_train_posi"):
        embed_text(tmp_path)
    root = polyvore_u.write_polyvore_u(tmp_path / "bare", image_size=None)
    with pytest.raises(MissingFileError, match="no items.parquet and no titles.json"):
        embed_text(root)
    with pytest.raises(InputError, match="expected titles in a .csv or a .json"):
        embed_text(root, titles=tmp_path / "titles.txt")


def test_hashed_text_sees_spelling_as_people_do():
    red, same, typo, jeans, empty = HashedText()(
        [
            "Größe red T-shirt",
            "GRÖSSE ｒｅｄ t-shirt",
            "grösse red t-shirts",
            "jeans",
            " ",
        ]
    )
    np.testing.assert_array_equal(red, same)
    assert 0.8 < red @ typo < 1 and abs(red @ jeans) < 0.2
    assert np.linalg.norm(red) == pytest.approx(1, abs=1e-6) and not empty.any()


def test_hashed_text_is_the_sum_of_signed_tokens_by_hand():
    import hashlib

    expected = np.zeros(64)
    for word, count in (("ab", 2), ("c", 1)):
        grams = {"ab": ("<ab", "ab>"), "c": ("<c>",)}[word]
        for token, weight in [(word, 1)] + [
            (f"#{gram}", len(grams) ** -0.5) for gram in grams
        ]:
            digest = hashlib.blake2b(token.encode(), digest_size=8).digest()
            number = int.from_bytes(digest, "little")
            sign = 1 if number % 2 else -1
            expected[number // 2 % 64] += sign * weight * (1 + np.log(count))
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(HashedText(64)(["ab c AB"])[0], expected, rtol=1e-6)


def test_unknown_models_name_the_nearest():
    with pytest.raises(InputError, match="did you mean 'hashed'"):
        make_text_model("hashd")
    with pytest.raises(InputError, match="1 to 65536 wide"):
        make_text_model("hashed:0")
    assert make_text_model("hashed:32")(["a"]).shape == (1, 32)


def test_a_model_of_sentence_transformers_is_asked_for_safetensors(monkeypatch):
    """Through the interface that the library publishes; it needs PyTorch itself."""
    asked = {}

    class SentenceTransformer:
        def __init__(self, name, **options):
            asked.update(options, name=name)

        def encode(self, texts, show_progress_bar):
            return np.array([[len(text), 1] for text in texts], np.float64)

    module = types.SimpleNamespace(SentenceTransformer=SentenceTransformer)
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    vectors = make_text_model("sentence-transformers:all-MiniLM-L6-v2")(["abc", ""])
    np.testing.assert_allclose(vectors, [[3 / 10**0.5, 1 / 10**0.5], [0, 1]], rtol=1e-6)
    assert asked == {
        "name": "all-MiniLM-L6-v2",
        "trust_remote_code": False,
        "model_kwargs": {"use_safetensors": True},
    }
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingPackageError, match=r'pip install "fhn_jax\[text\]"'):
        make_text_model("sentence-transformers:x")


def test_a_model_of_model2vec_in_a_folder_is_read(tmp_path):
    model2vec = pytest.importorskip("model2vec")
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 0, "red": 1, "shirt": 2}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    table = np.array([[1, 1, 1], [2, 0, 0], [0, 2, 0]], np.float32)
    model2vec.StaticModel(table, tokenizer).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    (vector,) = make_text_model(f"model2vec:{tmp_path}")(["red shirt"])
    np.testing.assert_allclose(vector, [0.5**0.5, 0.5**0.5, 0], atol=1e-6)
    with pytest.raises(MissingFileError, match="cannot be loaded"):
        make_text_model(f"model2vec:{tmp_path / 'none'}")


def test_vectors_are_written_whole_or_not_at_all(tmp_path):
    rows = np.eye(3, dtype=np.float32)
    about = {"model": "m", "source": "s"}
    for chunks, message in (
        ([rows[:2], rows[:2]], "more vectors than names"),
        ([rows[:2]], "2 vectors for 3 names"),
        ([rows[:2], rows[:1, :2]], "has 2 numbers, those before it 3"),
        ([rows[:2], np.full((1, 3), np.nan, np.float32)], "vector of 'c' has a NaN"),
        ([], "no vectors to write"),
    ):
        with pytest.raises(InputError, match=message):
            write_vectors(tmp_path, "v", "abc", chunks, **about)
        assert not list(tmp_path.glob("vectors/*"))
    path = write_vectors(tmp_path, "v", "abc", [rows[:2], rows[2:]], **about)
    np.testing.assert_array_equal(np.stack(list(load(path).values())), rows)


def test_text_and_features_are_named_alike_and_vectors_win(data):
    every = catalogue(data)
    names = every.item_names()
    rows = np.arange(len(names) * 3, dtype=np.float32).reshape(-1, 3)
    write_vectors(data, "mine", names[::-1], [rows], model="m", source="s")
    np.testing.assert_array_equal(read_text_vectors(data, every, "mine"), rows[::-1])
    np.testing.assert_array_equal(read_features(data, "mine", every), rows[::-1])
    polyvore_u.write_features(data, name="mine", width=5)
    polyvore_u.write_features(data, name="lmdb", width=5)
    assert read_features(data, "mine", every).shape == (len(names), 3)
    # The old places of either kind are read for both.
    assert read_text_vectors(data, every, "lmdb").shape == (len(names), 5)
    assert read_features(data, "semantic", every).shape == (len(names), 24)
    with pytest.raises(
        MissingFileError, match="no text vectors 'titel'.* there is .*mi"
    ):
        read_text_vectors(data, every, "titel")
    with pytest.raises(InputError, match="data.text='../x' has a path separator"):
        read_text_vectors(data, every, "../x")


def test_vectors_that_their_json_file_does_not_describe_are_refused(data):
    every = catalogue(data)
    path = embed_text(data, "changed")
    read_text_vectors(data, every, "changed")
    names, vectors = every.item_names(), np.ones((every.num_items, 2))
    np.savez(path, names=np.array(names), vectors=vectors)
    with pytest.raises(InputError, match="changed.npz has the SHA-256 .* was replaced"):
        read_text_vectors(data, every, "changed")
    path.with_suffix(".json").unlink()
    assert read_text_vectors(data, every, "changed").shape[1] == 2


def test_a_config_names_its_text_vectors_and_takes_their_width(data):
    embed_text(data, "narrow", "hashed:40")
    config = runs.settings(data, {"data.text": "narrow"}, config="text_t3", arg="smoke")
    loaded = load_inputs(config, catalogue(data), lambda title: lambda done, of: None)
    assert loaded.dims == {"text_dim": 40, "feature_dim": 0}


def parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("form", ["npz", "lists", "columns"])
def test_vectors_of_the_shop_are_carried_over_by_its_ids(tmp_path, form):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    if form == "npz":
        source = tmp_path / "clip.npz"
        np.savez(source, names=np.array(["7", "8", "9", "10"]), vectors=rows)
    elif form == "lists":
        vectors = rows.tolist()
        source = parquet(tmp_path / "clip.parquet", id=[7, 8, 9, 10], vector=vectors)
    else:
        numbers = {f"x{i}": rows[:, i] for i in range(3)}
        source = parquet(tmp_path / "clip.parquet", id=[7, 8, 9, 10], **numbers)
    ids = {"10": "d.jpg", "7": "a.jpg", "9": "c.jpg"}
    path, left_out = carry_vectors(source, tmp_path, ids)
    assert path == tmp_path / "vectors" / "clip.npz" and left_out == 1
    assert {name: row.tolist() for name, row in load(path).items()} == {
        "a.jpg": [0, 1, 2],
        "c.jpg": [6, 7, 8],
        "d.jpg": [9, 10, 11],
    }
    assert json.loads(path.with_suffix(".json").read_text())["source"] == source.name


def test_vectors_of_the_shop_that_are_of_no_use_are_refused(tmp_path):
    def refused(message, source, ids=("1",)):
        with pytest.raises(InputError, match=message):
            carry_vectors(source, tmp_path, {each: f"{each}.jpg" for each in ids})

    good = {"id": ["1", "2"], "v": [[1.0, 2.0], [3.0, 4.0]]}
    path = tmp_path / "v.parquet"
    refused("1 of 2 items have no vector: '3'", parquet(path, **good), ("1", "3"))
    refused("'1' occurs twice", parquet(path, **good | {"id": ["1", "1"]}))
    refused("has the columns v", parquet(path, v=good["v"]))
    refused("has the columns w, v", parquet(path, w=[1, 2], **good))
    refused("unequal widths", parquet(path, **good | {"v": [[1.0], [2.0, 3.0]]}))
    refused("no number", parquet(path, id=["1"], colour=["red"]))
    refused("NaN", parquet(path, id=["1"], x=[float("nan")]))
    path.write_bytes(b"PAR1")
    refused("is no Parquet file", path)
    refused("expected vectors in a .npz or a .parquet", tmp_path / "v.csv")
