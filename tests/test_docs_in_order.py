"""The commands of README and docs, one after the other in one folder, do not collide."""

import collections
from pathlib import Path

import pytest
import shops
from runs import run
from test_docs import PAGES, about, blocks, simple_commands
from web_site import make_site

from fhn_jax import files, main
from fhn_jax.cli.config import read_config_arguments, split_config
from fhn_jax.errors import (
    MissingFileError,
    MissingPackageError,
    UnreachableError,
    UserError,
)

# Command → the first page that shows it: what is shown again is not done again.
COMMANDS = {}
for _page in PAGES:
    for _, _text, _ in blocks(_page, "bash"):
        for _program, *_words in simple_commands(_text):
            if _program == "fhn-jax":
                COMMANDS.setdefault(tuple(_words), about(_page))
# Commands that write what their argument of this number names.
_WRITERS = {
    "import-catalogue": 2,
    "import-iqon3000": 2,
    "import-pog": 2,
    "import-polyvore-outfits": 2,
    "import-shift15m": 2,
    "export-ranked": 2,
    "make-demo": 1,
    "build-lmdb": 2,
    "convert-weights": 2,
    "fetch": 2,
}

# What compiles all loops, needs a network's weights, or only prints commands.
_LEFT_OUT = ("compile", "embed-images", "export-encoder", "sweep")


def workdir_of(words):
    """Where a command with --config writes, its settings, and what else it was given."""
    config, others = split_config(words)
    given = read_config_arguments(config)
    for number, word in enumerate(others):
        name, equals, value = word.partition("=")
        if name == "--workdir":
            return value if equals else others[number + 1], config
    return f"runs/{given.name}", config


@pytest.mark.slow
def test_no_two_commands_write_the_same_place():
    settings = collections.defaultdict(dict)
    for words, page in COMMANDS.items():
        # An update goes on with what is there.
        if {"--dry-run", "--update", "sweep", "cold-start"} & set(words):
            continue
        if "--ray-address" in words:  # A cluster makes the same.
            at = words.index("--ray-address")
            words = words[:at] + words[at + 2 :]
        if any(word.startswith("--config") for word in words):
            workdir, config = workdir_of(words)
            settings[workdir][" ".join(config)] = page
        elif words[0] in _WRITERS:
            settings[words[_WRITERS[words[0]]]][" ".join(words)] = page
        elif words[0] in ("embed-text", "embed-images"):
            # Without a name of their own, vectors have that of their model.
            said = [flag for flag in ("--name", "--model") if flag in words]
            name = words[words.index(said[0]) + 1] if said else ""
            settings[words[0], words[1], name][" ".join(words)] = page
    assert len(settings) > 12
    several = {place: found for place, found in settings.items() if len(found) > 1}
    assert several == {}


@pytest.mark.slow
def test_all_commands_after_one_another_in_one_folder(tmp_path, monkeypatch):
    """What needs files that are not here says so; all else works, whatever went before.

    Trainings are left out: where they write is tested above.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fhn_jax.data_tools.make_demo.make_demo", lambda *_, **__: None)
    monkeypatch.setattr("fhn_jax.web.app.serve", lambda *_, **__: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # Nobody is there.
    site = make_site(tmp_path / "site")
    Path("runs").mkdir()
    Path(site.workdir).rename("runs/vse_t3")
    data = {"root": site.root, "variant": site.variant}
    files.write_json("runs/vse_t3/config.json", {"data": data})
    shops.write(Path("shop"), items=shops.items(), likes=shops.wide_likes(each=12))
    wrong, missing, done = {}, {}, 0
    for words, page in COMMANDS.items():
        text = " ".join(words)
        if "--config" in words or words[0] in _LEFT_OUT or "10.0.0." in text:
            continue
        try:
            # Ray forks, which a process that has used jax must not do.
            if words[0] == "recommend-all":
                code, _, err = run(list(words), cwd=tmp_path)
                if code and "config.json: no such file" in err:
                    raise MissingFileError(err)
                assert code == 0, err
            else:
                main.run(list(words))
            done += 1
        except (MissingFileError, MissingPackageError, UnreachableError) as error:
            missing[text] = str(error)
        except UserError as error:
            wrong[text] = f"{page}: {error}"
        # Were it there, all that names no data would take it for them.
        assert not Path("data/polyvore").exists(), text
    assert wrong == {}
    assert done >= 12, missing
