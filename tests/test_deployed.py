"""The command lines of compose.yaml and deploy/kubernetes.yaml, where they run."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import shops
import yaml
from test_growth import NEW, like_as_visitor, trained  # noqa: F401

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.files.reading import SEAL
from fhn_jax.main import COMMANDS, run
from fhn_jax.recommender.publishing import published
from fhn_jax.web.state import State

pytest.importorskip("duckdb")
ROOT = Path(__file__).parents[1]
WORKDIR, DATABASE = "FHN_JAX_WORKDIR", "FHN_JAX_DATABASE_URL"


def of_compose():
    """The command line and the environment of the nightly refresh."""
    text = (ROOT / "compose.yaml").read_text()
    about = yaml.safe_load(text)["services"]["refresh"]
    (line,) = re.findall(r"^ *fhn-jax (.*)$", about["command"][0], re.M)
    variables = about["environment"]
    return shlex.split(line), variables | {WORKDIR: "runs/shop"}


def of_kubernetes():
    text = (ROOT / "deploy" / "kubernetes.yaml").read_text()
    all_ = {(r["kind"], r["metadata"]["name"]): r for r in yaml.safe_load_all(text)}
    pod = all_["CronJob", "refresh"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (source,) = container["envFrom"]
    variables = dict(all_["ConfigMap", source["configMapRef"]["name"]]["data"])
    variables |= {e["name"]: e.get("value", "secret") for e in container["env"]}
    return container["args"], variables


@pytest.fixture
def place(trained, tmp_path, monkeypatch):  # noqa: F811
    """A copy of a shop and its run, laid out as in a container; its working directory."""
    place = shutil.copytree(trained, tmp_path / "app")
    workdir = place / "runs" / "shop"
    workdir.parent.mkdir()
    (place / "run").rename(workdir)
    about = json.loads((workdir / "config.json").read_text())
    assert about.pop(SEAL)
    about["data"]["root"] = str(place / "data")
    files.write_sealed(workdir / "config.json", about)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def visitors(place, monkeypatch):
    """The database of visitors: not that of the workdir, as with PostgreSQL."""
    url = f"sqlite:///{place}/elsewhere.sqlite"
    state = State(url, Codes.load(place / "runs/shop/codes.safetensors").identity)
    yield state, url
    state.close()


@pytest.mark.slow
@pytest.mark.parametrize("deployed", [of_compose, of_kubernetes])
def test_the_nightly_refresh_works_as_it_is_deployed(
    place, visitors, deployed, monkeypatch
):
    command, variables = deployed()
    state, url = visitors
    like_as_visitor(state, [(0, 7, 7), (1, 7, 7), (2, 7, 7), (3, 7, 7)])
    assert variables[DATABASE].startswith("postgresql") and variables[WORKDIR]
    for name, value in (variables | {DATABASE: url}).items():
        monkeypatch.setenv(name, value)
    shops.write(place / "shop", items=[NEW, *shops.items()])
    try:
        run(command)
    except SystemExit as ended:  # The network that was trained is not better.
        assert ended.code == 2
    version = published(place / "runs/shop").current
    assert version is not None
    codes = Codes.load(version / "codes.safetensors")
    # Both the shop's table and the visitors' likes have come.
    assert codes.num_items == (9, 8, 8) and codes.num_users == 5


@pytest.mark.slow
def test_who_is_forgotten_is_found_in_the_database_of_the_environment(
    place, visitors, monkeypatch, capsys
):
    state, url = visitors
    like_as_visitor(state, [(0, 7, 7)], user=1)
    monkeypatch.setenv(WORKDIR, "runs/shop")
    # Where none is found, the receipt says so.
    run(["forget", "--user", "user 2", "--receipt", "receipt.json"])
    told = json.loads(capsys.readouterr().out)
    assert told["visitors"].startswith("not looked at: there is no runs/shop/visitors")
    assert json.loads(Path("receipt.json").read_text()) == told
    monkeypatch.setenv(DATABASE, url)
    run(["forget", "--user", "user 1"])
    told = json.loads(capsys.readouterr().out)
    assert told["deleted"]["visitors"] == 1 and "visitors" not in told
    assert not state.events()


def test_all_commands_of_the_visitors_database_are_told_by_the_environment():
    found = {"FHN_JAX_WORKDIR": "here", "FHN_JAX_DATABASE_URL": "postgresql:///x"}
    taking = [
        command
        for command in COMMANDS.values()
        if any(flag.name == "database-url" for flag in getattr(command, "flags", ()))
    ]
    assert {each.name for each in taking} >= {"serve", "refresh", "forget"}
    for command in taking:
        assert command.by_environment, command.name
        options = command.arguments(found).parse_args([])
        assert options.database_url == "postgresql:///x"
        assert str(options.workdir) == "here"
