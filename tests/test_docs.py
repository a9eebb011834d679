"""README, docs and the like: their Python runs, and their commands are taken."""

import argparse
import ast
import contextlib
import doctest
import importlib
import io
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
import test_layering
import yaml
from random_codes import random_codes
from web_site import make_site

import fhn_jax
from fhn_jax import main

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(
    r"(?P<comment>^<!--[^\n]*-->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def blocks(page, language):
    """Fenced blocks of a page: (number of the first line, text, comment before it)."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found["language"] == language:
            line = text.count("\n", 0, found.start("text")) + 1
            yield line, found["text"], found["comment"] or ""


def about(page):
    return page.relative_to(ROOT).as_posix()


def test_there_is_something_to_test():
    assert len(PAGES) > 12
    assert len(COMMANDS) > 60
    assert {name for name in ("README.md", "docs/retrieve.md")} <= {
        about(page) for page in PAGES if any(blocks(page, "python"))
    }


# --- Python -----------------------------------------------------------------------


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """An empty folder with the codes of a run."""
    random_codes(counts=(40, 30, 20)).save(
        tmp_path / "runs" / "vse_t3" / "codes.safetensors"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(blocks(page, "python"))], ids=about
)
def test_the_python_of_a_page_runs(page, run_folder):
    names = {"__name__": "page"}
    for line, text, comment in blocks(page, "python"):
        if "not run" in comment:
            ast.parse(text)
        elif ">>>" in text:
            test = doctest.DocTestParser().get_doctest(
                text, names, page.name, str(page), line - 1
            )
            runner = doctest.DocTestRunner()
            assert not runner.run(test, clear_globs=False).failed
        else:
            # Blank lines, so that a traceback has the page's line.
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), names)


# --- commands ---------------------------------------------------------------------


def simple_commands(text):
    """The commands of a shell text as lists of words, without redirections."""
    text = text.replace("\\\n", " ")
    # What is run to get a value is a command too.
    for inner in re.findall(r"\$\((.*)\)", text):
        yield from simple_commands(inner)
    for line in re.sub(r"\$\(.*\)", "VALUE", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if word and set(word) <= set("|&;"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def all_commands():
    for page in PAGES:
        for line, text, _ in blocks(page, "bash"):
            for words in simple_commands(text):
                yield pytest.param(words, id=f"{about(page)}:{line}:{' '.join(words)}")
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        for code in INLINE.findall(prose):
            code = " ".join(code.split())
            # Those that are whole: neither a bare name nor a pattern.
            if re.match(r"(fhn-jax|python|pip|pytest) ", code) and "…" not in code:
                for words in simple_commands(code):
                    if "COMMAND" in words:
                        continue
                    # Only named, without what it needs.
                    is_name = words[0] == "fhn-jax" and len(words) == 2
                    if is_name or words[-1] == "fhn_jax.main":
                        words = [*words, "--help"]
                    yield pytest.param(words, id=f"{about(page)}:{code}")


COMMANDS = list(all_commands())


class Parsed(Exception):
    """Arguments were read without complaint."""


@contextlib.contextmanager
def parsing_alone(monkeypatch):
    """Programs stop when they have read their arguments, which must be right."""

    def stop_after(method):
        def parse(self, *arguments, **options):
            found = method(self, *arguments, **options)
            if wrongly := [word for word in known_rest(found) if is_unknown(word)]:
                raise AssertionError(f"unknown arguments {wrongly}")
            raise Parsed

        return parse

    def known_rest(found):
        return found[1] if isinstance(found, tuple) else ()

    def is_unknown(word):
        return not word.startswith("--config.")

    monkeypatch.chdir(ROOT)
    parser = argparse.ArgumentParser
    known = parser.parse_known_args

    def parse_args(self, args=None, namespace=None):
        values, rest = known(self, args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return values

    monkeypatch.setattr(parser, "parse_args", stop_after(parse_args))
    monkeypatch.setattr(parser, "parse_known_args", stop_after(known))
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), pytest.raises(Parsed):
            yield
    except SystemExit as stopped:
        raise AssertionError(f"{stopped} {errors.getvalue()}") from None


def check_fhn_jax(arguments, monkeypatch):
    if arguments[-1] in ("--help", "--version"):
        named = {word for word in arguments if word not in ("--help", "--version")}
        assert named <= main.COMMANDS.keys()
        return
    from fhn_jax.cli.config import read_config_arguments, split_config

    with parsing_alone(monkeypatch):
        main.run(list(arguments))
    if arguments[0] not in main.COMMANDS or hasattr(
        main.COMMANDS[arguments[0]], "flags"
    ):
        # An unknown config, argument or key raises.
        read_config_arguments(split_config(arguments)[0])


def check_program(module, arguments, monkeypatch):
    with parsing_alone(monkeypatch):
        importlib.import_module(module).main(list(arguments))


def check_benchmark(path, arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    monkeypatch.syspath_prepend(str(path.parent))
    with parsing_alone(monkeypatch):
        runpy.run_path(str(path), run_name="__main__")


def check_pip(arguments):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # A package alone is one of an extra's.
    packages = {
        re.match(r"[\w-]+", each).group()
        for extra in project["optional-dependencies"].values()
        for each in extra
    }
    assert arguments[0] == "install"
    for word in arguments[1:]:
        if found := re.fullmatch(r"(?:fhn_jax|\.)\[(.*)\]", word):
            extras = set(found.group(1).split(","))
            assert extras <= project["optional-dependencies"].keys()
        elif word.endswith(".txt"):
            assert (ROOT / word).is_file()
        else:
            assert word in {"-r", "-e", ".", "fhn_jax", "pre-commit", *packages}


def check_python(arguments, monkeypatch):
    if arguments[0] == "-c":
        ast.parse(arguments[1])
    elif arguments[:2] in (["-m", "venv"], ["-m", "pytest"]):
        if arguments[1] == "pytest":
            paths = [w for w in arguments[2:] if w.startswith("tests")]
            assert all((ROOT / path).is_file() for path in paths)
    elif arguments[0] == "-m" and arguments[1] == "fhn_jax.main":
        check_fhn_jax(arguments[2:], monkeypatch)
    elif arguments[0] == "-m" and re.match(r"(fhn_jax\.)?data_tools\.", arguments[1]):
        name = arguments[1].rpartition(".")[2]
        if arguments[2:]:
            check_program(f"fhn_jax.data_tools.{name}", arguments[2:], monkeypatch)
        else:
            assert (ROOT / "data_tools" / f"{name}.py").is_file()
    else:
        path = arguments[0]
        rest = arguments[1:]
        if path == "-m":
            path, rest = arguments[1].replace(".", "/"), arguments[2:]
            path += "/__main__.py" if (ROOT / path).is_dir() else ".py"
        assert re.fullmatch(r"benchmarks/\w+(/__main__)?\.py", path), path
        check_benchmark(ROOT / path, rest, monkeypatch)


# Programs that are not ours; their first argument, where a typo would matter.
OTHERS = {
    "docker": {"build", "run", "compose"},
    "kubectl": {"create", "-n"},
    "mkdocs": {"build", "serve"},
    "pre-commit": {"install"},
    "pyright": {None},
    "ruff": {"check", "format"},
    "sh": {None},
    ".": {".venv/bin/activate"},
    "curl": {"-s"},
}


def check(words, monkeypatch):
    """Fails unless a command of a page would be taken."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        variable, *words = words
        if variable.startswith("FHN_JAX_"):
            flags = main.COMMANDS["serve"].flags
            known = {flag.variable for flag in flags} | {"FHN_JAX_WORKDIR"}
            assert variable.partition("=")[0] in known
    if words[:2] == ["taskset", "-c"]:
        words = words[3:]
    if not words:
        return
    program, *arguments = words
    if program == "fhn-jax":
        check_fhn_jax(arguments, monkeypatch)
    elif program in ("python", "python3"):
        check_python(arguments, monkeypatch)
    elif program == "pip":
        check_pip(arguments)
    else:
        assert (arguments or [None])[0] in OTHERS[program]
        for number, word in enumerate(arguments):
            if program in ("docker", "kubectl") and word == "-f":
                assert (ROOT / arguments[number + 1]).is_file()
        if arguments[:1] == ["compose"]:
            check_compose(arguments[1:], monkeypatch)


def check_compose(words, monkeypatch):
    about = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    if words[0] == "--profile":
        assert words[1] in {p for s in about.values() for p in s.get("profiles", ())}
        words = words[2:]
    if words[0] == "run":
        assert words[1] == "--rm" and words[2] in about
        check_fhn_jax(words[3:], monkeypatch)
    else:
        assert words == ["up", "--detach"]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_a_page_is_taken(words, monkeypatch):
    check(words, monkeypatch)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name != "benchmarks"], ids=about
)
def test_flags_and_settings_that_a_page_names_exist(page):
    from fhn_jax.configs import vse_t3

    flags = {"--config", "--debug", "--help", "--version"}
    for command in main.COMMANDS.values():
        if hasattr(command, "flags"):
            flags |= command.arguments()._option_string_actions.keys()
        else:
            source = Path(importlib.import_module(command.module).__file__).read_text()
            flags |= set(re.findall(r'"(--[a-z-]+)"', source))
    for code in INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if found := re.fullmatch(r"--config\.([\w.]+)(=.*)?", code):
            value = vse_t3.get_config()
            for key in found.group(1).split("."):
                value = value[key]
        elif found := re.match(r"(--[a-z-]+)", code):
            assert found.group(1) in flags, code


@pytest.mark.parametrize(
    "text",
    [
        "fhn-jax search --workdir runs/vse_t3 --users 3",
        "fhn-jax serch --workdir runs/vse_t3",
        "fhn-jax train --likes 3",
        "fhn-jax --config vse_t4",
        "fhn-jax --config vse_t3:bitz=64",
        "fhn-jax --config vse_t3 --config.train.epoch=5",
        "fhn-jax split-users data/polyvore 630 base --random-user 500 --bad",
        "python -m data_tools.make_fitb data/polyvore 630 --splits val",
        "python benchmarks/retrieval.py --outfit 1M --bad",
        "pip install 'fhn_jax[retreival]'",
        "fhn_jax search",
    ],
)
def test_a_wrong_command_would_be_noticed(text, monkeypatch):
    (words,) = simple_commands(text)
    with pytest.raises((Exception, pytest.fail.Exception)):
        check(words, monkeypatch)


@pytest.mark.slow
def test_the_requests_of_a_page_are_those_of_the_api(tmp_path):
    from fhn_jax.web.app import create_app

    known = create_app(make_site(tmp_path)).openapi()["paths"].keys()
    for page in PAGES:
        for _, text, _ in blocks(page, "bash"):
            for path in re.findall(r"\$API(/[\w/-]+)", text):
                assert f"/api/v1{path}" in known


# --- links and the map ------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=about)
def test_links_lead_to_files(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=about)
def test_files_that_a_page_names_are_there(page):
    for code in INLINE.findall(page.read_text(encoding="utf-8")):
        if re.fullmatch(
            r"(fhn_jax|benchmarks|data_tools|configs|tests|docs)/[\w./]+", code
        ):
            assert (ROOT / code).exists(), code


def test_the_map_of_the_rooms_is_that_of_the_layering_test():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \|$", text, re.M)
    shown = {room: set(re.findall(r"`(\w+)`", known)) for room, known in rows}
    assert shown == test_layering.ARROWS


def test_the_version_to_cite_is_that_of_the_package():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {fhn_jax.__version__}\n" in text
