"""The wheel, and what an installation needs: what a checkout would hide."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from polyvore_u import write_polyvore_u
from random_codes import codes_of, random_codes

from fhn_jax.data.layout import read_catalogue

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
SOURCES = ("fhn_jax", "configs", "data_tools")


def in_wheel(path):
    """The path in the wheel of a file of the checkout."""
    path = path.relative_to(ROOT)
    return (path if path.parts[0] == "fhn_jax" else "fhn_jax" / path).as_posix()


FILES = {
    in_wheel(path)
    for source in SOURCES
    for path in (ROOT / source).rglob("*")
    if path.is_file() and path.suffix not in {".pyc", ".nbi", ".nbc"}
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the checkout."""
    found = importlib.metadata.version("setuptools")
    if int(found.partition(".")[0]) < 77:
        pytest.skip(f"building needs setuptools 77 or later, found {found}")
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", source],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_every_file_under_one_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    information = {name for name in names if ".dist-info/" in name}
    assert names - information == FILES
    assert {name.partition("/")[0] for name in names - information} == {"fhn_jax"}
    assert {name.rpartition("/")[2] for name in information} >= {
        *("METADATA", "entry_points.txt", "LICENSE"),
    }


@pytest.mark.slow
def test_every_module_of_the_wheel_can_be_imported(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    modules = sorted(
        re.sub(r"(/__init__)?\.py$", "", name).replace("/", ".")
        for name in FILES
        # Alembic runs this one, with a connection.
        if name.endswith(".py") and not name.endswith("migrations/env.py")
    )
    program = f"""
import importlib, sys
# An editable install would find what the wheel lacks.
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]
sys.path.insert(0, {str(tmp_path / "site")!r})
for name in {modules!r}:
    found = importlib.import_module(name).__file__
    assert found.startswith(sys.path[0]), found
"""
    run(program, cwd=tmp_path)


def run(program, cwd):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_package_is_listed():
    folders = {Path(name).parent for name in FILES if name.endswith(".py")}
    assert set(SETUPTOOLS["packages"]) == {".".join(folder.parts) for folder in folders}
    assert len(SETUPTOOLS["packages"]) == len(set(SETUPTOOLS["packages"]))


def test_every_file_that_is_no_module_is_listed():
    listed = {
        path.relative_to(ROOT).as_posix()
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in (ROOT / Path(*package.split("."))).glob(pattern)
    }
    assert listed == {name for name in FILES if not name.endswith(".py")}


def test_the_extra_all_has_what_the_program_needs():
    extras = PROJECT["project"]["optional-dependencies"]
    (text,) = extras["all"]
    named = set(re.fullmatch(r"fhn_jax\[(.*)\]", text).group(1).split(","))
    # Those of published models bring PyTorch.
    others = {"all", "bench", "cuda", "dev", "docs", "tpu", "text", "embed"}
    assert named == extras.keys() - others


def test_the_requirements_are_pinned_versions_of_the_declared_ones():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[0] == "-e ."
    pinned = {}
    for requirement in map(Requirement, lines[1:]):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        pinned[canonical(requirement.name)] = specifier.version
    project = PROJECT["project"]
    texts = list(project["dependencies"])
    for extra, some in project["optional-dependencies"].items():
        if extra not in ("bench", "cuda", "tpu", "text", "embed"):
            texts += some
    declared = {}
    for requirement in map(Requirement, texts):
        if (name := canonical(requirement.name)) != "fhn-jax":
            declared[name] = requirement.specifier
    # Needed by a benchmark's comparison and a test of it; large.
    declared.pop("faiss-cpu")
    assert pinned.keys() == declared.keys()
    assert not [n for n in pinned if pinned[n] not in declared[n]]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(*extras):
    """The distributions that come with an installation of some extras."""
    project = PROJECT["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    wanted += [Requirement(f"fhn_jax[{extra}]") for extra in extras]
    seen = set()
    while wanted:
        requirement = wanted.pop()
        name = canonical(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == "fhn-jax":
                texts = project["optional-dependencies"][extra] if extra else []
                wanted += map(Requirement, texts)
                continue
            try:
                texts = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue  # of another platform
            wanted += [
                other
                for other in map(Requirement, texts)
                if not other.marker or other.marker.evaluate({"extra": extra})
            ]
    return {name for name, _ in seen}


def without_the_rest(*extras):
    """A program's start: modules of other distributions cannot be imported."""
    installed = closure(*extras)
    forbidden = sorted(
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if module != "fhn_jax" and not {canonical(o) for o in owners} & installed
    )
    return f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in forbidden:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

forbidden = set({forbidden!r})
sys.meta_path.insert(0, Absent())
"""


@pytest.mark.slow
def test_codes_are_scored_with_the_base_installation(tmp_path):
    codes = random_codes()
    codes.save(tmp_path / "codes.safetensors")
    program = """
import numpy as np
from fhn_jax.codes import Codes, Scorer
codes = Codes.load("codes.safetensors")
scores = Scorer(codes).score("binary", np.array([3]), np.array([[0, 1, 2]]))
assert scores.shape == (1,)
assert not {"jax", "numba", "PIL", "lmdb", "tensorflow"} & set(sys.modules)
"""
    run(without_the_rest() + program, cwd=tmp_path)


@pytest.mark.slow
def test_outfits_are_found_with_the_extra_retrieval(tmp_path):
    codes = random_codes()
    codes.save(tmp_path / "codes.safetensors")
    outfits = np.stack(np.meshgrid(range(5), range(4), range(3)), -1).reshape(-1, 3)
    np.save(tmp_path / "outfits.npy", outfits)
    program = """
import numpy as np
import fhn_jax.recommender, fhn_jax.retrieval.composer
from fhn_jax.codes import Codes
from fhn_jax.retrieval.outfit_index import OutfitIndex
codes = Codes.load("codes.safetensors")
index = OutfitIndex.build("index", codes, np.load("outfits.npy"))
assert len(index.search(3, 5).outfits) == 5
"""
    run(without_the_rest("retrieval") + program, cwd=tmp_path)


@pytest.mark.slow
def test_the_page_is_served_with_the_extra_web(tmp_path):
    root = write_polyvore_u(tmp_path / "data")
    catalogue = read_catalogue(root, "8")
    codes_of(catalogue).save(tmp_path / "run" / "codes.safetensors")
    program = f"""
import asyncio
from fhn_jax.web import app, photos
settings = app.Settings(
    workdir="run", root={str(root)!r}, variant="8", index="", database_url="",
    allowed_hosts=app.split_hosts("", "127.0.0.1"), rate=0.0, known_users=True,
)

async def status(path):
    sent = []
    async def receive():
        return {{"type": "http.request", "body": b"", "more_body": False}}
    async def send(message):
        sent.append(message)
    scope = {{
        "type": "http", "asgi": {{"version": "3.0"}}, "http_version": "1.1",
        "method": "GET", "scheme": "http", "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1), "server": ("localhost", 80),
    }}
    await served(scope, receive, send)
    return sent[0]["status"]

served = app.create_app(settings)

async def main():
    async with served.router.lifespan_context(served):
        while await status("/ready") == 503:
            await asyncio.sleep(0.05)
        paths = "/", "/health", "/ready", "/static/swagger-ui.css"
        return [await status(path) for path in paths]

statuses = asyncio.run(main())
assert statuses == [200] * 4, statuses
"""
    run(without_the_rest("web") + program, cwd=tmp_path)
