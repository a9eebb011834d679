"""Who imports whom, read from the source: the layout of the project as assertions."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fhn_jax", "configs", "data_tools")


def _module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "fhn_jax":
        parts = ("fhn_jax", *parts)  # as in the wheel
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    _module(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def _imports(module):
    """Modules that `module` imports: (name, whether when it is imported itself)."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            # `from package import module` imports the module.
            names = [
                name
                if (name := f"{node.module}.{alias.name}") in FILES
                else node.module
                for alias in node.names
            ]
        else:
            continue
        found |= {(name, id(node) not in inside) for name in names}
    return found


IMPORTS = {module: _imports(module) for module in FILES}


def imports(module):
    return {name for name, _ in IMPORTS[module]}


def packages(module):
    """First names of what a module imports: "jax", "numpy", …"""
    return {name.partition(".")[0] for name in imports(module)}


def at_start(module):
    """All modules that come with importing one, itself included."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        todo += [other for other, early in IMPORTS.get(name, ()) if early]
    return seen


# Room → the rooms that it may know. A room is a folder or a module of fhn_jax.
ARROWS = {
    "errors": set(),
    "program": {"errors"},
    "files": {"errors"},
    "codes": {"errors", "files"},
    "data": {"errors", "files"},
    "models": {"errors"},
    "new_users": {"errors", "codes", "data"},
    "evaluation": {"errors", "files", "codes", "data", "new_users", "retrieval"},
    "training": {
        *("errors", "files", "codes", "data", "models", "evaluation", "configs"),
    },
    "retrieval": {"errors", "files", "codes"},
    "recommender": {
        *("errors", "files", "codes", "data", "evaluation", "new_users", "retrieval"),
        "integrations",
    },
    "integrations": {"errors", "files", "codes", "retrieval"},
    "reporting": {"errors", "files", "codes", "data", "evaluation"},
    # Of the data, the pictures alone.
    "web": {"errors", "files", "codes", "data", "recommender"},
    "configs": {"errors"},
    "data_tools": {
        *("errors", "program", "files", "codes", "data", "evaluation", "reporting"),
        "integrations",
        # But for one program, see below.
    },
}
ON_TOP = {"main", "cli"}


def room(module):
    return module.split(".")[1] if "." in module else ""


def test_there_is_something_to_test():
    assert {"fhn_jax.training.loop", "fhn_jax.models.hashing"} <= FILES.keys()
    assert "fhn_jax.data.catalogue" in at_start("fhn_jax.evaluation.evaluators")
    assert ON_TOP | ARROWS.keys() == {room(module) for module in FILES} - {""}


@pytest.mark.parametrize("module", FILES)
def test_arrows_point_down(module):
    own = room(module)
    if own in ON_TOP or not own:
        return
    allowed = {own} | ARROWS[own]
    if module in MAKES_A_RUN:
        allowed |= {"training", "models"}
    if module == READS_PYTORCH:
        allowed |= {"data_tools"}
    known = {room(name) for name in imports(module) if name.startswith("fhn_jax.")}
    assert known <= allowed


# They read or make a run, with its settings, network and checkpoint, or run a network.
MAKES_A_RUN = {
    "fhn_jax.data_tools.export_ranked",
    "fhn_jax.data_tools.image_models",
    "fhn_jax.data_tools.convert_reference_checkpoint",
    "fhn_jax.models.reference_names",
}
# Where pip puts weights in PyTorch's format; the one reader of it is a data tool.
READS_PYTORCH = "fhn_jax.training.pretrained"


def test_nothing_knows_the_command_line():
    importers = {m for m in FILES if {room(n) for n in imports(m)} & ON_TOP}
    assert {room(module) for module in importers} <= ON_TOP
    assert not [m for m in FILES if "fhn_jax.main" in imports(m)]


@pytest.mark.parametrize(
    ("package", "only"),
    [
        ("lmdb", {"data.records", "data_tools.build_lmdb"}),
        ("tensorflow", {"data.pipeline"}),
        ("tensorflow_datasets", {"data_tools.polyvore_u"}),
        ("matplotlib", {"reporting.charts"}),
        ("orbax", {"training.checkpoint"}),
        ("wandb", {"training.writers"}),
        ("absl", {"cli.config"}),
        ("pickle", {"data_tools.restricted_pickle"}),
        ("huggingface_hub", {"data_tools.fetch"}),
        ("ray", {"integrations.cluster"}),
        ("pyarrow", {"integrations.recommending", "data_tools.carry_vectors"}),
        ("duckdb", {"data.item_table", "data_tools.shop.engine"}),
        ("qdrant_client", {"integrations.qdrant"}),
        ("numba", {"retrieval.kernels.jit"}),
        (
            "sqlalchemy",
            {
                *("web.state", "web.change", "web.database", "web.engines"),
                *("web.tables", "web.impressions", "web.migrations"),
                *(f"web.migrations.versions.v{number}" for number in (1, 2, 3, 4)),
            },
        ),
        (
            "alembic",
            {
                *("web.migrations", "web.migrations.env"),
                *(f"web.migrations.versions.v{number}" for number in (1, 2, 3, 4)),
            },
        ),
        ("jinja2", {"web.page"}),
        ("uvicorn", {"web.app", "web.connections"}),
        ("prometheus_client", {"web.metrics"}),
        ("pydantic", {"web.schemas"}),
        ("fastapi", {f"web.{n}" for n in ("admission", "app", "page", "routes")}),
    ],
)
def test_a_package_is_imported_in_one_place(package, only):
    found = {module for module in FILES if package in packages(module)}
    assert found <= {f"fhn_jax.{name}" for name in only}


@pytest.mark.parametrize(
    "package", ["tensorflow", "wandb", "ray", "pyarrow", "duckdb", "qdrant_client"]
)
def test_what_is_slow_to_import_is_imported_when_used(package):
    for module in FILES:
        early = {name for name, is_early in IMPORTS[module] if is_early}
        assert package not in {name.partition(".")[0] for name in early}, module


@pytest.mark.parametrize(
    "module", [m for m in FILES if room(m) not in ("models", "training", "data_tools")]
)
def test_what_needs_no_accelerator_imports_no_jax(module):
    heavy = {"jax", "flax", "optax", "orbax", "tensorflow"}
    assert not {name.partition(".")[0] for name in at_start(module)} & heavy


def test_models_know_neither_settings_nor_data_nor_training():
    for module in FILES:
        if room(module) == "models":
            assert not packages(module) & {"absl", "ml_collections", "os", "pathlib"}


def test_losses_and_metrics_are_pure():
    assert packages("fhn_jax.training.objective") <= {
        *("jax", "jaxtyping", "dataclasses", "collections", "typing", "fhn_jax"),
    }
    assert packages("fhn_jax.evaluation.metrics") <= {
        *("numpy", "jaxtyping", "collections", "dataclasses", "functools", "typing"),
    }


def test_configs_are_plain_values():
    for module in FILES:
        if room(module) == "configs":
            assert packages(module) <= {"ml_collections", "fhn_jax"}, module


def test_imports_have_no_cycle():
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for name in sorted(imports(module) & FILES.keys()):
                visit(name, (*path, module))
            done.add(module)

    for module in FILES:
        visit(module, ())


@pytest.mark.parametrize(("module", "lines"), [("main", 100), ("training.loop", 300)])
def test_the_entry_and_the_loop_stay_short(module, lines):
    assert len(FILES[f"fhn_jax.{module}"].read_text().splitlines()) < lines


def test_no_file_is_longer_than_500_lines():
    folders = (*PACKAGES, "tests", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert not [p for p in files if len(p.read_text().splitlines()) > 500]


def test_no_file_is_called_utils():
    assert not [
        m for m in FILES if m.rpartition(".")[2] in ("utils", "util", "helpers")
    ]


@pytest.mark.parametrize("name", ["step", "epochs", "schedule", "sharding", "export"])
def test_the_step_can_be_measured_with_jax_alone(name):
    absent = {"tensorflow", "lmdb", "ml_collections", "wandb", "orbax", "simplejpeg"}
    if name != "export":  # The rows of images that it may read are those of Pillow.
        absent.add("PIL")
    below = at_start(f"fhn_jax.training.{name}")
    assert not {name.partition(".")[0] for name in below} & absent


def test_starting_the_command_line_loads_nothing_slow():
    program = "import sys, fhn_jax.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    slow = {"jax", "flax", "tensorflow", "matplotlib", "wandb", "orbax", "optax"}
    assert not slow & set(done.stdout.split())
