"""The serve action: a process that is started, asked, stopped and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from fhn_jax.data_tools import make_demo
from polyvore_u import small_demo
from runs import REPOSITORY, choose, exit_code, start
from web_site import make_site

from fhn_jax import files, main
from fhn_jax.cli import serving


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


def ask(port, path, body=None, token=None):
    """The JSON answer of a server that is starting or has started."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, headers=headers
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read())
        except OSError as error:
            # Not listening, or not ready.
            if getattr(error, "code", 503) != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    settings = make_site(tmp_path_factory.mktemp("site"))
    config = {"data": {"root": settings.root, "variant": settings.variant}}
    files.write_json(f"{settings.workdir}/config.json", config)
    return settings.workdir


def serve(workdir, port, *options):
    return start(["serve", f"--workdir={workdir}", f"--port={port}", *options])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_is_stopped_or_killed_and_goes_on_where_it_was(workdir, workers):
    port, options = free_port(), [f"--workers={workers}"]
    first = serve(workdir, port, *options)
    try:
        assert ask(port, "/ready") == {"status": "ok"}
        token = ask(port, "/api/v1/visitors", {})["token"]
        for top in range(6):
            outfit = {"top": top, "bottom": 2, "shoe": 3}
            body = {"items": outfit, "liked": top % 2 == 0}
            ask(port, "/api/v1/feedback", body, token)
        before = ask(port, "/api/v1/recommendations?k=6", token=token)
    finally:
        first.send_signal(signal.SIGINT if workers > 1 else signal.SIGKILL)
        out, err = first.communicate(timeout=30)
    assert f"serving at http://127.0.0.1:{port}/" in out
    second = serve(workdir, port, *options)
    try:
        assert ask(port, "/api/v1/visitors/me", token=token)["likes"] == 3
        assert ask(port, "/api/v1/recommendations?k=6", token=token) == before
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read()
        # Of all processes, whichever answered.
        assert b'route="/api/v1/visitors/me",status="200"} 1.0' in metrics
        # Clients that do not finish what they began.
        silent = socket.create_connection(("127.0.0.1", port))
        stuck = socket.create_connection(("127.0.0.1", port))
        head = "POST /api/v1/feedback HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Authorization: Bearer {token}\r\nContent-Length: 99\r\n\r\n"
        stuck.sendall(head.encode())
    finally:
        second.send_signal(signal.SIGTERM)
        _, err = second.communicate(timeout=60)
    silent.close(), stuck.close()
    assert second.returncode == 0 and "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--port=99999"], "expected a port below 65536"),
        (["--workers=0"], "at least one process"),
        (["--trusted-proxies=proxy"], "expected addresses or networks"),
    ],
)
def test_a_place_that_cannot_be_served_at_is_said(
    workdir, monkeypatch, capsys, options, text
):
    monkeypatch.setattr(
        socket, "create_server", lambda *_, **__: pytest.fail("listens")
    )
    assert exit_code(main.run, ["serve", f"--workdir={workdir}", *options]) == 1
    assert text in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--database-url=mysql://x/y"], "--database-url: expected a URL such as"),
        (["--index=nowhere"], "expected an index of outfits"),
    ],
)
def test_what_cannot_be_served_is_said(workdir, options, text):
    process = serve(workdir, free_port(), *options)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and text in err and "Traceback" not in err


@pytest.mark.slow
def test_a_port_that_is_taken_is_said(workdir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = serve(workdir, taken.getsockname()[1])
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Address already in use" in err


def test_without_a_workdir_the_demo_is_trained_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = []

    def train(choice, split):
        run = choice.open()
        trained.append((str(run.root), str(run.workdir)))
        data = {"root": "data/demo", "variant": run.variant}
        files.write_json(run.workdir / "config.json", {"data": data})
        files.write_text(run.workdir / "codes.safetensors", "")

    monkeypatch.setattr(serving, "main_job", train)
    monkeypatch.setattr(make_demo, "make_demo", small_demo)
    for _ in range(2):
        run = serving.demo()
        assert (str(run.root), str(run.workdir)) == ("data/demo", "runs/vse_t3")
    assert trained == [("data/demo", "runs/vse_t3")]
    with pytest.raises(ValueError, match="give --config"):
        choose().open()


def test_without_a_workdir_real_data_are_not_trained_on_by_chance(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "polyvore").mkdir(parents=True)
    with pytest.raises(ValueError, match="no run in runs/vse_t3 yet; train one"):
        serving.demo()


@pytest.mark.slow
def test_a_server_loads_neither_jax_nor_tensorflow():
    program = "import sys, fhn_jax.web.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    slow = {"jax", "flax", "tensorflow", "matplotlib", "wandb", "orbax", "optax"}
    assert not slow & set(done.stdout.split())
