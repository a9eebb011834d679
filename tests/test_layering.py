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


def test_there_is_something_to_test():
    assert {"fhn_jax.train", "fhn_jax.models.hashing", "configs.common"} <= FILES.keys()
    assert "fhn_jax.data.schema" in at_start("fhn_jax.evaluate")


@pytest.mark.parametrize(
    ("package", "only"),
    [
        ("lmdb", {"fhn_jax.data.records", "data_tools.build_lmdb"}),
        ("tensorflow", {"fhn_jax.data.pipeline"}),
        ("tensorflow_datasets", {"data_tools.polyvore_u"}),
        ("matplotlib", {"fhn_jax.charts", "fhn_jax.report"}),
        ("orbax", {"fhn_jax.checkpoint"}),
        ("wandb", {"fhn_jax.writers"}),
        ("absl", {"fhn_jax.main"}),
        ("pickle", {"data_tools.restricted_pickle"}),
        ("ray", {"fhn_jax.retrieval.cluster"}),
        ("pyarrow", {"fhn_jax.retrieval.cluster"}),
        ("qdrant_client", {"fhn_jax.retrieval.vectors"}),
        ("numba", {"fhn_jax.retrieval.kernels"}),
        ("sqlalchemy", {"fhn_jax.web.state", "fhn_jax.web.service"}),
        ("jinja2", {"fhn_jax.web.page"}),
        ("uvicorn", {"fhn_jax.web.app"}),
        ("prometheus_client", {"fhn_jax.web.metrics"}),
        ("pydantic", {"fhn_jax.web.schemas"}),
        (
            "fastapi",
            {f"fhn_jax.web.{name}" for name in ("app", "page", "routes")},
        ),
    ],
)
def test_a_package_is_imported_in_one_place(package, only):
    assert {module for module in FILES if package in packages(module)} <= only


@pytest.mark.parametrize(
    "package", ["tensorflow", "wandb", "ray", "pyarrow", "qdrant_client"]
)
def test_what_is_slow_to_import_is_imported_when_used(package):
    for module in FILES:
        early = {name for name, is_early in IMPORTS[module] if is_early}
        assert package not in {name.partition(".")[0] for name in early}, module


@pytest.mark.parametrize(
    "module",
    [
        "fhn_jax.main",
        "fhn_jax.actions",
        "fhn_jax.workdir",
        "fhn_jax.files",
        "fhn_jax.metrics",
        "fhn_jax.codes",
        "fhn_jax.contact_sheet",
        "fhn_jax.evaluate",
        "fhn_jax.packed",
        "fhn_jax.report",
        "fhn_jax.report_page",
        "fhn_jax.charts",
        "fhn_jax.sweep",
        "fhn_jax.data.schema",
        "fhn_jax.data.images",
        "fhn_jax.retrieval.cold_start",
        "fhn_jax.retrieval.new_users",
        "fhn_jax.data.features",
        *(module for module in FILES if module.startswith("fhn_jax.retrieval")),
        *(module for module in FILES if module.startswith("fhn_jax.web")),
    ],
)
def test_what_needs_no_accelerator_imports_no_jax(module):
    heavy = {"jax", "flax", "optax", "orbax", "tensorflow"}
    assert not {name.partition(".")[0] for name in at_start(module)} & heavy


def test_evaluate_and_report_know_nothing_of_training():
    below = at_start("fhn_jax.evaluate") | at_start("fhn_jax.report")
    assert {name for name in below if name.startswith("fhn_jax")} <= {
        "fhn_jax",
        "fhn_jax.evaluate",
        "fhn_jax.report",
        "fhn_jax.report_page",
        "fhn_jax.charts",
        "fhn_jax.codes",
        "fhn_jax.contact_sheet",
        "fhn_jax.metrics",
        "fhn_jax.files",
        "fhn_jax.data",
        "fhn_jax.data.schema",
        "fhn_jax.data.images",
        "fhn_jax.data.records",
    }


def test_models_know_neither_settings_nor_data_nor_training():
    for module in FILES:
        if module.startswith("fhn_jax.models"):
            ours = {name for name in imports(module) if name.startswith(PACKAGES)}
            assert all(name.startswith("fhn_jax.models") for name in ours), module
            assert not packages(module) & {"absl", "ml_collections", "os", "pathlib"}


def test_losses_and_metrics_are_pure():
    assert packages("fhn_jax.losses") <= {"jax", "jaxtyping"}
    assert packages("fhn_jax.metrics") <= {"numpy", "jaxtyping", "collections"}


def test_configs_are_plain_values():
    for module in FILES:
        if module.startswith("configs."):
            assert packages(module) <= {"ml_collections", "configs"}, module


def test_data_does_not_know_what_is_made_of_it():
    for module in FILES:
        if module.startswith("fhn_jax.data"):
            ours = {name for name in imports(module) if name.startswith("fhn_jax")}
            allowed = ("fhn_jax.data", "fhn_jax.files")
            assert all(name.startswith(allowed) for name in ours), module


def test_data_tools_do_not_import_training():
    of_codes = ("codes", "contact_sheet", "evaluate", "workdir")
    # But for the one that makes a run, with settings and a checkpoint, of a file.
    others = FILES.keys() - {"data_tools.convert_reference_checkpoint"}
    for module in others:
        if module.startswith("data_tools"):
            allowed = {"fhn_jax.files", "fhn_jax.data"}
            if module == "data_tools.export_ranked":
                allowed |= {f"fhn_jax.{name}" for name in of_codes}
            assert all(
                name in allowed
                or name.startswith(("fhn_jax.data.schema", "fhn_jax.data.images"))
                for name in imports(module)
                if name.startswith("fhn_jax")
            ), module


def test_the_page_is_on_top_of_search_and_data():
    allowed = ("fhn_jax.web", "fhn_jax.retrieval", "fhn_jax.data")
    others = {"fhn_jax.codes", "fhn_jax.evaluate", "fhn_jax.files"}
    for module in FILES:
        ours = {name for name in imports(module) if name.startswith(PACKAGES)}
        if module.startswith("fhn_jax.web"):
            assert all(n.startswith(allowed) or n in others for n in ours), module
        elif module != "fhn_jax.actions":
            assert not [n for n in ours if n.startswith("fhn_jax.web")], module


def test_only_the_command_line_reads_settings_from_it():
    assert "fhn_jax.main" not in {name for m in FILES for name in imports(m)}
    importers = {m for m in FILES if "fhn_jax.actions" in imports(m)}
    assert importers <= {"fhn_jax.main"}


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


@pytest.mark.parametrize(("module", "lines"), [("main", 100), ("train", 300)])
def test_the_entry_and_the_loop_stay_short(module, lines):
    assert len(FILES[f"fhn_jax.{module}"].read_text().splitlines()) < lines


def test_no_file_is_called_utils():
    assert not [
        m for m in FILES if m.rpartition(".")[2] in ("utils", "util", "helpers")
    ]


@pytest.mark.parametrize(
    "module",
    ["fhn_jax.train_state", "fhn_jax.epochs", "fhn_jax.schedule", "fhn_jax.sharding"],
)
def test_the_step_can_be_measured_with_jax_alone(module):
    absent = {"tensorflow", "lmdb", "ml_collections", "wandb", "orbax", "PIL"}
    assert not {name.partition(".")[0] for name in at_start(module)} & absent


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
