"""Attributes of items: kinds and sizes of columns, and changes while others read."""

import contextlib
import datetime
import pickle
import shutil
import threading

import numpy as np
import pytest
from random_codes import random_codes

from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.retrieval import attributes as module
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.columns import Column
from fhn_jax.retrieval.filters import Only, bound, resolve_each
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.where import Where

CODES = random_codes(counts=(3, 2, 2))
VALUES = {
    "price": [10, 20, 30, 40, 50, 60, 70],
    "stock": [True] * 7,
    "brand": ["a", "b", None, "a", "b", "c", "ü"],
}


@pytest.fixture
def folder(tmp_path):
    return Attributes.create(tmp_path / "attributes", CODES, VALUES)._now.folder.path


def column(attributes, name):
    of = attributes.columns()[name]
    if of.kind == "text":
        texts = [*of.texts, None]
        return [texts[value] for value in of.values]
    return of.values.tolist()


@pytest.mark.parametrize(
    "values, dtype, kind",
    [
        ([0, 127], np.int8, "number"),
        ([0, 128], np.int16, "number"),
        ([0, 2**40], np.int64, "number"),
        ([0.5, None], np.float32, "number"),
        ([19.99, None], np.float64, "number"),
        (np.array([2**53, 2**53 + 1]), np.int64, "number"),
        ([True, None], np.int8, "boolean"),
        (["a", 7], np.int32, "text"),
        ([None, None], np.int32, "text"),
        ([datetime.date(2026, 11, 28), None], np.float64, "time"),
        (np.array(["2026-11-28"], "M8[D]"), np.float64, "time"),
    ],
)
def test_columns_have_the_smallest_type_that_is_exact(values, dtype, kind):
    made = Column.of(values)
    assert (made.values.dtype, made.kind) == (dtype, kind)


def test_a_value_is_read_as_json_has_it():
    time = datetime.datetime(2026, 11, 28, 12, 0, 0, 250)
    for values in (
        [0.1, 7, None],
        [16_777_217],
        [True, False, None],
        ["b", None, "a"],
        [None],
    ):
        column = Column.of(values)
        assert [column.at(place) for place in range(len(values))] == values
    assert Column.of([None, time]).at(1) == time.isoformat()
    assert Column.of([None, time]).at(0) is None


def test_numbers_and_times_are_compared_exactly():
    prices = Column.of([0.1, 0.5, 16_777_217, None])
    assert prices.meets("<", ["16777217"], "p").tolist() == [True, True, False, False]
    assert prices.meets("=", ["0.1"], "p").tolist() == [True, False, False, False]
    halves = Column.of([0.5, 0.25])
    assert halves.meets("<=", ["0.2500000001"], "p").tolist() == [False, True]
    arrived = Column.of([datetime.datetime(2026, 11, 28, 12), None])
    assert arrived.meets(">=", ["2026-11-28"], "arrived").tolist() == [True, False]
    assert arrived.meets("<", ["2026-11-28T12:00:00"], "arrived").sum() == 0


def test_a_change_is_seen_by_whoever_has_them_open(folder):
    reader, writer = (Attributes.open(folder, CODES) for _ in range(2))
    before = reader.columns()
    writer.change(
        {"stock": {"shoe": {0: False}}, "brand": {"top": {2: "new", 0: None}}}
    )
    writer.change({"price": {"top": {1: 19.99}, "bottom": {0: None}}})
    for each in (reader, writer, Attributes.open(folder, CODES)):
        assert column(each, "stock") == [1, 1, 1, 1, 1, 0, 1]
        assert column(each, "brand") == [None, "b", "new", "a", "b", "c", "ü"]
        np.testing.assert_array_equal(
            column(each, "price"), [10, 19.99, 30, np.nan, 50, 60, 70]
        )
    # What somebody is reading stays as it was.
    assert before["stock"].values.tolist() == [1] * 7


def test_long_journals_become_arrays(folder, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST_JOURNAL", 300)
    reader, writer = (Attributes.open(folder, CODES) for _ in range(2))
    for number in range(30):
        writer.change({"price": {"top": {number % 3: number}}})
        assert column(reader, "price") == column(writer, "price")
    assert column(Attributes.open(folder, CODES), "price")[:3] == [27, 28, 29]
    assert len(list(folder.glob("changes-*"))) <= 1
    writer.change({"brand": {"shoe": {0: "d"}}})
    assert column(reader, "brand")[5] == "d"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"prise": {"top": {0: 1}}}, "no attribute 'prise'.*did you mean 'price'"),
        ({"price": {"topp": {0: 1}}}, "category 'topp' is unknown"),
        ({"price": {"top": {3: 1}}}, "top 3 is not among the codes"),
        ({"price": {"top": {0: "dear"}}}, "price is a number, and 'dear' is none"),
        ({"stock": {"top": {0: "perhaps"}}}, "stock is a boolean"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(folder, change, message):
    attributes = Attributes.open(folder, CODES)
    with pytest.raises(InputError, match=message):
        attributes.change({"stock": {"top": {0: False}}} | change)
    for each in (attributes, Attributes.open(folder, CODES)):
        assert column(each, "stock") == [1] * 7


def test_what_a_crash_left_unfinished_is_not_there(folder):
    writer = Attributes.open(folder, CODES)
    writer.change({"price": {"top": {0: 11}}})
    journal = writer._now.journal
    whole = journal.read_bytes()
    for end in range(len(whole)):
        journal.write_bytes(whole + whole[:end])
        reader = Attributes.open(folder, CODES)
        assert column(reader, "price")[0] == 11
    writer.change({"price": {"top": {0: 12}}})
    assert column(reader, "price")[0] == 12
    journal.write_bytes(whole.replace(b"11", b"99"))
    with pytest.raises(InputError, match="a record is damaged"):
        Attributes.open(folder, CODES)


def test_attributes_of_other_items_are_refused_and_never_followed(folder, tmp_path):
    more = random_codes(counts=(4, 2, 2))
    with pytest.raises(InputError, match="attributes of other items"):
        Attributes.open(folder, more)
    with pytest.raises(InputError, match="7 values of price for 8 items"):
        Attributes.in_memory(more, {"price": range(7)})
    with pytest.raises(MissingFileError):
        Attributes.open(tmp_path / "none", CODES)
    reader = Attributes.open(folder, CODES)
    Attributes.create(tmp_path / "other", more, {"price": range(8)})
    folder.rename(tmp_path / "old")
    (tmp_path / "other").rename(folder)
    assert column(reader, "price") == VALUES["price"]


@pytest.mark.slow
def test_readers_have_all_of_a_change_or_nothing(folder, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST_JOURNAL", 2000)
    reader, writer = (Attributes.open(folder, CODES) for _ in range(2))
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            columns = reader.columns()
            seen.add(tuple(columns["price"].values.tolist()))
            assert len(set(columns["price"].values.tolist())) == 1

    everything = {
        n: range(c) for n, c in zip(CODES.categories, CODES.num_items, strict=True)
    }
    writer.change(
        {"price": {n: dict.fromkeys(ids, 0) for n, ids in everything.items()}}
    )
    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 100):
        writer.change(
            {"price": {n: dict.fromkeys(ids, number) for n, ids in everything.items()}}
        )
    while (99.0,) * 7 not in seen and thread.is_alive():
        pass
    done.set()
    thread.join()
    assert (99.0,) * 7 in seen


def test_attributes_travel_with_an_index_and_survive_its_changes(tmp_path):
    outfits = np.array(
        [(t, b, s) for t in range(3) for b in range(2) for s in range(2)]
    )
    index = OutfitIndex.build(tmp_path / "index", CODES, outfits, attributes=VALUES)
    (tmp_path / "index").rename(tmp_path / "moved")
    index = OutfitIndex.open(tmp_path / "moved", CODES)
    other = OutfitIndex.open(tmp_path / "moved", CODES)
    assert len(index.search(0, 99, filters=Where("stock"))) == 12
    other.attributes.change({"stock": {"shoe": {1: False}}})
    assert len(index.search(0, 99, filters=Where("stock"))) == 6
    index.append(outfits[:1])
    index.compact()
    assert len(index.search(0, 99, filters=Where("stock"))) == 7
    assert len(index.part(0, 1).search(0, 99, filters=Where("stock"))) == 7


def test_they_can_be_sent_to_other_processes(folder):
    attributes = Attributes.open(folder, CODES)
    attributes.change({"price": {"top": {0: 12}}})
    sent = pickle.loads(pickle.dumps(attributes))
    assert column(sent, "price") == column(attributes, "price")
    assert column(sent, "brand") == column(attributes, "brand")
    attributes.change({"price": {"top": {0: 13}}})
    assert column(sent, "price")[0] == 13
    both = [Where("price=12"), Only({"top": [0]})]
    for filters in (both, [both, both], both[0]):
        got = bound(filters, attributes)
        assert len(resolve_each(got, CODES, 2)) == 2


def test_conditions_without_attributes_say_what_they_need(tmp_path):
    index = OutfitIndex.build(tmp_path / "index", CODES, np.zeros((1, 3), int))
    with pytest.raises(InputError, match="price<=80: these items have no attributes"):
        index.search(0, filters=Where("price<=80"))


def test_those_of_other_codes_in_the_same_place_are_neither_read_nor_written(tmp_path):
    more, path = random_codes(counts=(9, 2, 2)), tmp_path / "attributes"
    ours = Attributes.create(path, CODES, VALUES)
    ours.change({"price": {"top": {0: 5}}})
    old = Attributes.open(path, CODES)
    shutil.rmtree(path)
    new = Attributes.create(path, more, {"price": [1.0] * 13})
    new.change({"price": {"top": {8: 7}}})
    for _ in range(2):
        assert column(old, "price")[:2] == [5, 20]
    for write in (
        lambda: old.change({"price": {"top": {1: 6}}}),
        lambda: old.replace(VALUES),
    ):
        with pytest.raises(InputError, match="has attributes of other items now"):
            write()
    assert column(Attributes.open(path, more), "price")[7:9] == [1, 7]


def test_what_changes_while_they_are_opened_or_written_is_seen(folder, monkeypatch):
    opened, change = module._open, module.ArrayFolder.change

    def twice(price):
        return VALUES | {"price": [price] * 7}

    def changed_meanwhile(path):
        found = opened(path)
        monkeypatch.setattr(module, "_open", opened)
        Attributes.open(folder, CODES).replace(twice(2))
        return found

    monkeypatch.setattr(module, "_open", changed_meanwhile)
    mine = Attributes.open(folder, CODES)
    assert column(mine, "price") == [2] * 7

    @contextlib.contextmanager
    def changed_after(self):
        with change(self) as change_of_mine:
            yield change_of_mine
        monkeypatch.setattr(module.ArrayFolder, "change", change)
        Attributes.open(folder, CODES).replace(twice(4))

    monkeypatch.setattr(module.ArrayFolder, "change", changed_after)
    mine.replace(twice(3))
    assert column(mine, "price") == [4] * 7
    mine.change({"price": {"top": {1: 9}}})
    assert column(Attributes.open(folder, CODES), "price")[:2] == [4, 9]


def test_attributes_can_be_replaced_by_who_has_not_looked_since(folder):
    first, second = (Attributes.open(folder, CODES) for _ in range(2))
    first.replace(VALUES | {"price": [4] * 7})
    second.replace(VALUES | {"price": [5] * 7})
    assert column(first, "price") == [5] * 7
