"""The commands of README and docs, one after the other in one folder, do not collide."""

import collections
import contextlib
import json
from pathlib import Path

import pytest
import shops
from polyvore_u import write_polyvore_u
from test_docs import PAGES, about, blocks, simple_commands

from fhn_jax import main
from fhn_jax.cli.config import read_config_arguments, split_config
from fhn_jax.errors import (
    MissingFileError,
    MissingPackageError,
    UnreachableError,
    UserError,
)

# What is shown again on another page is not done again.
COMMANDS = list(
    dict.fromkeys(
        (tuple(words[1:]), about(page))
        for page in PAGES
        for _, text, _ in blocks(page, "bash")
        for words in simple_commands(text)
        if words[0] == "fhn-jax"
    )
)
# Commands that write what their argument of this number names.
_WRITERS = {
    "import-catalogue": 2,
    "import-iqon3000": 2,
    "import-pog": 2,
    "import-polyvore-outfits": 2,
    "import-shift15m": 2,
    "make-demo": 1,
    "build-lmdb": 2,
    "convert-weights": 2,
    "fetch": 2,
}

# What compiles all loops, and what takes a network of 18 MB to the photos of a shop.
_LONG = ("compile", "embed-images")


def workdir_of(words):
    """Where a command with --config writes, its settings, and what else it was given."""
    config, others = split_config(words)
    given = read_config_arguments(config)
    for number, word in enumerate(others):
        name, equals, value = word.partition("=")
        if name == "--workdir":
            return value if equals else others[number + 1], config
    return f"runs/{given.name}", config


def test_no_two_commands_write_the_same_place():
    settings = collections.defaultdict(dict)
    for words, page in COMMANDS:
        if "--dry-run" in words or "sweep" in words or "cold-start" in words:
            continue
        if any(word.startswith("--config") for word in words):
            workdir, config = workdir_of(words)
            settings[workdir][" ".join(config)] = page
        elif words[0] in _WRITERS:
            settings[words[_WRITERS[words[0]]]][" ".join(words)] = page
        elif words[0] in ("embed-text", "embed-images"):
            name = words[words.index("--name") + 1] if "--name" in words else ""
            settings[words[0], words[1], name][" ".join(words)] = page
    assert len(settings) > 12
    several = {place: found for place, found in settings.items() if len(found) > 1}
    assert several == {}


def demo(root):
    """Stands in for the demo set, with images, which takes half a minute to draw."""
    root = Path(root)
    if not root.exists():
        write_polyvore_u(root, variant="8", users=8, image_size=40)
        (root / "DEMO").write_text(json.dumps({"users": 8}))


def smoke(words):
    """A command in its smallest form, in the same workdir."""
    if not any(word.startswith("--config") for word in words) or words[0] == "sweep":
        return list(words)
    workdir, _ = workdir_of(words)
    short = []
    for number, word in enumerate(words):
        if number and words[number - 1] == "--config" and "smoke" not in word:
            word += ",smoke" if ":" in word else ":smoke"
        short.append(word)
    return short if "--workdir" in words else [*short, "--workdir", workdir]


@pytest.mark.slow
def test_all_commands_after_one_another_in_one_folder(tmp_path, monkeypatch, capsys):
    """What needs files that are not here says so; all else works, whatever went before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fhn_jax.data_tools.make_demo.make_demo", demo)
    monkeypatch.setattr("fhn_jax.web.app.serve", lambda *_, **__: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # Nobody is there.
    tables = dict(items=shops.items(), likes=shops.wide_likes(each=12))
    shops.write(tmp_path / "shop", **tables)
    wrong, missing, done = {}, [], 0
    for words, page in COMMANDS:
        command = smoke(words)
        if words[0] in _LONG or any("10.0.0." in word for word in words):
            continue
        try:
            with contextlib.suppress(SystemExit):
                main.run(command)
            done += 1
        except (MissingFileError, MissingPackageError, UnreachableError) as error:
            missing.append((" ".join(words), str(error)))
        except UserError as error:
            wrong[" ".join(words)] = f"{page}: {error}"
        # Where it is, everything without other data would take it for them.
        assert not (tmp_path / "data" / "polyvore").exists(), words
    assert wrong == {}
    assert done > 30, missing
