"""docs/tutorial.md: its own commands, run on the shop that it shows."""

import json
import re
import signal
import urllib.request

import pytest
from runs import start
from test_docs import ROOT, blocks, simple_commands
from test_serve import ask, free_port
from tutorial_shop import DATA, SHELVES, make_shop

from fhn_jax.data.item_table import read_items, read_users

pytest.importorskip("duckdb")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA.name}"),
]
PAGE = ROOT / "docs" / "tutorial.md"
TEXT = PAGE.read_text(encoding="utf-8")
# The import, the training, the server; and further down the short training.
COMMANDS = [
    words[1:] for _, text, _ in blocks(PAGE, "bash") for words in simple_commands(text)
]
IMPORT, TRAIN, SERVE, QUICK = COMMANDS[:4]


def succeed(arguments, folder):
    """What a command prints on stdout and stderr, compiled as a user's is."""
    process = start(arguments, cwd=folder, env={"XLA_FLAGS": None})
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the shop's folder is, and the three commands were given."""
    folder = tmp_path_factory.mktemp("tutorial")
    make_shop(folder / "shop")
    return folder


@pytest.fixture(scope="module")
def imported(folder):
    """What the import printed."""
    return succeed(IMPORT, folder)[0]


@pytest.fixture(scope="module")
def trained(folder, imported):
    """What the training printed, with the settings of the page for a quick look."""
    assert QUICK[: len(TRAIN)] == TRAIN
    return succeed(QUICK, folder)


def test_three_commands_lead_to_the_page():
    first = next(blocks(PAGE, "bash"))[1]
    assert [words[0] for words in simple_commands(first)] == ["fhn-jax"] * 3
    assert (IMPORT[0], SERVE[0]) == ("import-catalogue", "serve")


def test_the_page_shows_rows_of_the_shop(folder):
    rows = re.findall(r"^(?:[A-Z]{2}-|look-|customer-)[^\n]*,[^\n]*$", TEXT, re.M)
    lines = [
        line
        for name in ("items", "outfits", "likes")
        for line in (folder / "shop" / f"{name}.csv").read_text().splitlines()
    ]
    assert len(rows) == 5
    assert [row for row in rows if row not in lines] == []


def test_the_import_prints_what_the_page_shows(imported):
    (shown,) = re.findall(
        r"^```\n(catalogue.toml, as guessed.*?)^```$", TEXT, re.M | re.S
    )
    assert shown in imported


def test_the_catalogue_toml_of_the_page_makes_the_same_data(folder, imported):
    ((_, toml, _),) = blocks(PAGE, "toml")
    path = folder / "shop" / "catalogue.toml"
    path.write_text(toml)
    try:
        succeed(["import-catalogue", "shop", "data/named"], folder)
    finally:
        path.unlink()
    for name in ("tuples_shop/tuples_train_posi", "tuples_shop/tuples_test_nega"):
        ours, theirs = (folder / "data" / root / name for root in ("shop", "named"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_training_says_what_it_chose_and_learns(trained, folder):
    for line in re.findall(r"^  (?:backbone|text|bits)=.*$", TEXT, re.M):
        assert line in trained[1]
    results = json.loads((folder / "runs" / "first" / "results.json").read_text())
    assert results["scores"]["binary"]["auc"] > 0.55, results["scores"]


def test_python_finds_outfits_by_the_ids_of_the_shop(
    trained, folder, monkeypatch, capsys
):
    ((_, text, _),) = blocks(PAGE, "python")
    monkeypatch.chdir(folder)
    exec(compile(text.replace("runs/shop", "runs/first"), str(PAGE), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) in (8, 9) and any(line.startswith("SO-1021 ") for line in lines)


@pytest.fixture(scope="module")
def port(trained, folder):
    """Where the page is served."""
    assert SERVE[-1] == "runs/shop"
    port = free_port()
    process = start([*SERVE[:-1], "runs/first", f"--port={port}"], cwd=folder)
    try:
        assert ask(port, "/ready") == {"status": "ok"}
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_the_page_and_its_api_speak_titles_and_ids_of_the_shop(port, folder):
    items, users = (
        read_items(folder / "data" / "shop"),
        read_users(folder / "data" / "shop"),
    )
    assert set(users.names) == {f"customer-{n:02}" for n in range(40)}
    token = ask(port, "/api/v1/visitors", {"user": 7})["token"]
    answer = ask(port, "/api/v1/recommendations?k=12&explore=0", token=token)
    assert len(answer["outfits"]) == 12
    for outfit in answer["outfits"]:
        for piece in outfit["items"]:
            category = items.categories.index(piece["category"])
            row = items.row(items.offsets[category] + piece["item"])
            assert piece["title"] == row["title"]
            assert row["id"].startswith(SHELVES[piece["category"]][1])
    url = f"http://127.0.0.1:{port}"
    with urllib.request.urlopen(
        url + answer["outfits"][0]["items"][0]["image"]
    ) as image:
        assert image.read(2) == b"\xff\xd8"
    with urllib.request.urlopen(url + "/") as page:
        assert "<html" in page.read().decode()
