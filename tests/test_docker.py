"""The images' recipes: what can be told without an engine to build them."""

import os
import re
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from fhn_jax.main import COMMANDS
from fhn_jax.web.limits import networks

ROOT = Path(__file__).parents[1]
RECIPES = ("Dockerfile", "Dockerfile.cuda")


def instructions(name):
    """(instruction, arguments) in their order; a comment is none."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def arguments(name, instruction):
    return [rest for word, rest in instructions(name) if word == instruction]


@pytest.mark.parametrize("name", RECIPES)
def test_the_base_image_is_one_version_of_a_python_that_is_supported(name):
    (base,) = arguments(name, "FROM")
    minor = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-\w+", base).group(1)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={minor}"


@pytest.mark.parametrize("name", RECIPES)
def test_the_program_runs_as_a_user_that_owns_no_code(name):
    words = [word for word, _ in instructions(name)]
    assert arguments(name, "USER") == ["fhn"]
    after = words[words.index("USER") + 1 :]
    assert after == ["ENTRYPOINT", "CMD"]
    owned = re.search(r"chown -R fhn:fhn (.*)", arguments(name, "RUN")[-1]).group(1)
    assert owned.split() == ["compiled", "data", "runs"]


@pytest.mark.parametrize("name", RECIPES)
def test_loops_are_compiled_when_the_image_is_built(name):
    found = instructions(name)
    compiling = found.index(("RUN", "fhn-jax compile"))
    (installing,) = [n for n, (_, rest) in enumerate(found) if rest.endswith("-e .")]
    (variables,) = [(n, rest) for n, (word, rest) in enumerate(found) if word == "ENV"]
    assert variables[0] < installing < compiling
    # Where the user who runs it may write: else numba looks elsewhere.
    assert "NUMBA_CACHE_DIR=/app/compiled" in variables[1].split()


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_copied_is_there_and_not_ignored(name):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = [s for text in arguments(name, "COPY") for s in text.split()[:-1]]
    assert {f"!{source}" for source in copied} == {
        line for line in ignored if line.startswith("!")
    }
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("name", RECIPES)
def test_the_command_is_that_of_the_readme(name):
    command = [*strings(name, "ENTRYPOINT"), *strings(name, "CMD")]
    assert " ".join(command) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / "configs" / f"{command[-1]}.py").is_file()


@pytest.mark.parametrize("name", RECIPES)
def test_the_project_is_installed_after_all_that_it_is_made_of_is_there(name):
    found = instructions(name)
    (number,) = [n for n, (_, rest) in enumerate(found) if rest.endswith("-e .")]
    assert all(n < number for n, (word, _) in enumerate(found) if word == "COPY")
    assert "--no-deps" in found[number][1]


def strings(name, instruction):
    """The strings of an instruction in brackets."""
    (text,) = arguments(name, instruction)
    return re.findall(r'"([^"]*)"', text)


def test_the_two_recipes_differ_in_packages_and_variables_alone():
    cpu, cuda = map(instructions, RECIPES)
    differing = [pair for pair in zip(cpu, cuda, strict=True) if pair[0] != pair[1]]
    assert [a[0] for a, _ in differing] == ["ENV", "RUN"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["cuda"][-1]
    assert f'"{extra.partition(">")[0]}"' in differing[1][1][1]


# --- compose.yaml -----------------------------------------------------------------


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def taken(command, variables):
    """The values of a command's flags, all of which it has."""
    known = {flag.variable for flag in COMMANDS[command[0]].flags}
    known |= {"FHN_JAX_WORKDIR", "PGPASSWORD"}  # The second is PostgreSQL's own.
    assert variables.keys() <= known
    return vars(COMMANDS[command[0]].arguments(variables).parse_args(command[1:]))


def test_the_composed_server_is_one_that_the_command_line_takes(services):
    app = services["services"]["app"]
    # Values that are not given have a default after ":-".
    variables = {
        name: re.sub(r"\$\{\w+:[-?]([^}]*)\}", r"\1", value)
        for name, value in app["environment"].items()
    }
    found = taken(app["command"], variables)
    assert found["host"] == "0.0.0.0" and found["known_users"] is False
    (network,) = services["networks"]["inside"]["ipam"]["config"]
    assert found["trusted_proxies"] == network["subnet"]
    networks([found["trusted_proxies"]])
    assert f'"http://127.0.0.1:{found["port"]}/ready"' in app["healthcheck"]["test"][-1]


def test_the_composed_services_fit_together(services):
    about = services["services"]
    for service in about.values():
        assert set(service.get("depends_on", {})) <= about.keys()
        for other in service.get("depends_on", {}):
            assert "healthcheck" in about[other]
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            known = services["volumes"].keys()
            if source != "./shop":  # It is the user's.
                assert (
                    (ROOT / source).is_file() if source[0] == "." else source in known
                )
    assert "ports" not in about["app"] and "ports" not in about["database"]
    # Nothing secret is in the file, and no service does without a password.
    assert (
        "${POSTGRES_PASSWORD:?" in about["database"]["environment"]["POSTGRES_PASSWORD"]
    )


def test_a_refresh_comes_each_night_at_three(services, tmp_path):
    refresh = services["services"]["refresh"]
    assert refresh["environment"] == services["services"]["app"]["environment"]
    assert refresh["entrypoint"] == ["sh", "-c"] and refresh["profiles"] == ["shop"]
    (script,) = refresh["command"]
    # Compose writes $$ for $. Here nothing waits, and the second night does not come.
    for name, does in (
        ("sleep", 'echo "$1" >> waited'),
        ("fhn-jax", 'echo "$@" >> called; kill "$PPID"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TZ": "UTC"}
    script = script.replace("$$", "$")
    subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment)
    (command,) = (tmp_path / "called").read_text().splitlines()
    taken(command.split(), {})
    at = time.time() + int((tmp_path / "waited").read_text())
    assert round(at / 60) % (24 * 60) == 3 * 60


def test_the_proxy_passes_on_what_the_server_needs():
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    headers = dict(re.findall(r"proxy_set_header (\S+) (\S+);", text))
    assert headers["Host"] == "$http_host"  # with its port
    assert headers["X-Forwarded-For"] == "$remote_addr"  # not what a client claims
    assert set(headers) == {
        "Host",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Request-ID",
    }
    assert "limit_conn " in text and "location /metrics" in text
    in_docs = (ROOT / "docs" / "deployment.md").read_text()
    assert dict(re.findall(r"proxy_set_header (\S+) (\S+);", in_docs)) == headers


# --- deploy/kubernetes.yaml -------------------------------------------------------


@pytest.fixture(scope="module")
def resources():
    """By kind and name."""
    text = (ROOT / "deploy" / "kubernetes.yaml").read_text()
    found = {}
    for one in yaml.safe_load_all(text):
        assert found.setdefault((one["kind"], one["metadata"]["name"]), one) is one
    return found


def pods(resources):
    """(name of the resource, specification of its pod)."""
    for (kind, name), one in resources.items():
        if kind in ("Deployment", "StatefulSet", "Job"):
            yield name, one["spec"]["template"]["spec"]
        elif kind == "CronJob":
            yield name, one["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_the_commands_of_kubernetes_are_ours(resources):
    settings = resources["ConfigMap", "settings"]["data"]
    taken_by = {}
    for name, pod in pods(resources):
        (container,) = pod["containers"]
        if "command" in container or "args" not in container:
            continue
        values = {e["name"]: e["value"] for e in container["env"] if "value" in e}
        taken_by[name] = taken(container["args"], settings | values)
        assert pod["securityContext"]["runAsUser"] == 1000  # as in the Dockerfile
    assert taken_by["app"]["host"] == "0.0.0.0"
    assert taken_by["app"]["known_users"] is False
    networks([taken_by["app"]["trusted_proxies"]])
    (app,) = resources["Deployment", "app"]["spec"]["template"]["spec"]["containers"]
    assert app["ports"] == [{"name": "http", "containerPort": taken_by["app"]["port"]}]
    assert taken_by["refresh"]["shop"] == "shop"


def test_the_resources_of_kubernetes_fit_together(resources):
    names = {kind: {n for k, n in resources if k == kind} for kind, _ in resources}
    for _, pod in pods(resources):
        (container,) = pod["containers"]
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in pod.get("volumes", ())
        }
        assert set(claims.values()) <= names["PersistentVolumeClaim"]
        assert mounts <= claims.keys() | {"database"}
        # No secret is in the file.
        for variable in container.get("env", ()):
            if "PASSWORD" in variable["name"]:
                assert variable["valueFrom"]["secretKeyRef"]["name"] == "database"
    for name in names["Service"]:
        (selected,) = [
            one
            for (kind, _), one in resources.items()
            if kind in ("Deployment", "StatefulSet")
            and one["spec"]["template"]["metadata"]["labels"]
            == resources["Service", name]["spec"]["selector"]
        ]
        (container,) = selected["spec"]["template"]["spec"]["containers"]
        (port,) = resources["Service", name]["spec"]["ports"]
        target = port.get("targetPort", port["name"])
        assert target in {one["name"] for one in container["ports"]}
