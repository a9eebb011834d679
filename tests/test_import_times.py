"""Times as shops write them."""

import calendar

import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from fhn_jax.data_tools.shop import engine
from fhn_jax.data_tools.shop.sources import Source
from fhn_jax.data_tools.shop.times import seconds

from fhn_jax.errors import InputError

pytest.importorskip("duckdb")
NOON = calendar.timegm((2024, 3, 5, 12, 0, 0))


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    with engine.database(tmp_path_factory.mktemp("work")) as connection:
        connection.execute("CREATE TABLE notes (note VARCHAR)")
        yield connection


def read(connection, *times):
    connection.execute(
        "CREATE OR REPLACE TABLE likes (time VARCHAR); DELETE FROM notes"
    )
    connection.executemany("INSERT INTO likes VALUES (?)", [(each,) for each in times])
    value = seconds(connection, Source("likes", "likes.csv", {"time": "time"}, 1))
    rows = connection.execute(f"SELECT {value} FROM likes t").fetchall()
    notes = connection.execute("SELECT note FROM notes").fetchall()
    return [row for (row,) in rows], [note for (note,) in notes]


@pytest.mark.parametrize(
    "written",
    [
        f"{NOON}",
        f"{NOON},0",
        f"{NOON}000",
        f"{NOON}000000",
        f"{NOON}000000000",
        "2024-03-05T12:00:00Z",
        "2024-03-05 14:00:00+02:00",
        "05.03.2024 12:00",
        "5.3.2024 12:00:00",
    ],
)
def test_a_time_is_read_however_it_is_written(connection, written):
    assert read(connection, written) == ([NOON], [])


def test_days_are_read_as_their_first_moment(connection):
    written = ["2024-03-05", "20240305", "05.03.2024"]
    assert read(connection, *written)[0] == [NOON - 43_200] * 3


def test_what_comes_first_of_day_and_month_is_known_by_the_others(connection):
    day_first = ["05/03/2024 12:00", "25/03/2024", "5-3-2024 12:00:00"]
    assert read(connection, *day_first)[0] == [
        NOON,
        NOON + 1_684_800,
        NOON,
    ]
    month_first = ["03/05/2024 12:00 PM", "03/25/2024"]
    assert read(connection, *month_first)[0][0] == NOON


def test_times_that_may_be_two_things_or_none_are_noted(connection):
    rows, (note,) = read(connection, "03/05/2024", "nan", "inf", None, f"{NOON}")
    assert rows == [None, None, None, None, NOON]
    assert note.startswith(
        "likes.csv: 3 times cannot be read, such as '03/05/2024'; exp"
    )


@pytest.mark.parametrize("split", ["time", "leave-last-out"])
def test_a_split_by_times_that_cannot_be_read_is_an_error_that_shows_one(
    tmp_path, split
):
    likes = [row | {"time": "03/05/2024"} for row in shops.wide_likes()]
    shop = shops.write(tmp_path / "shop", items=shops.items(), likes=likes)
    with pytest.raises(InputError, match="24 of 24 likes have no time.*'03/05/2024'"):
        import_catalogue(shop, tmp_path / "data", split=split)
    note = "note: likes.csv: 24 times cannot be read"
    assert note in import_catalogue(shop, tmp_path / "data", dry_run=True).text


def test_the_last_like_is_not_sought_among_those_without_a_time(tmp_path):
    likes = [
        row | {"time": f"2024-03-{n + 1:02}"}
        for n, row in enumerate(shops.wide_likes())
    ]
    likes[23]["time"] = "soon"
    shop = shops.write(tmp_path / "shop", items=shops.items(), likes=likes[::-1])
    import_catalogue(shop, tmp_path / "data", split="leave-last-out")
    (left_out,) = shops.quarantine(tmp_path / "data")
    assert (left_out["row"], left_out["what"]) == (1, "user 3")
