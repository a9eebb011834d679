"""A Ray that starts slowly, is not there, or is not installed."""

import socket
import sys
import tempfile

import pytest
from ray_cluster import CODES, write_run
from runs import run

from fhn_jax.errors import UserError
from fhn_jax.integrations import cluster, recommending
from fhn_jax.integrations.ray import open_index


class FakeRay:
    """Stands in for Ray that does not start, the first so many times."""

    def __init__(self, failures):
        self.failures, self.addresses, self.left = list(failures), [], 0

    def is_initialized(self):
        return False

    def init(self, address, **_):
        self.addresses.append(address)
        if self.failures:
            raise self.failures.pop(0)

    def shutdown(self):
        self.left += 1


parquet = pytest.importorskip("pyarrow.parquet")
SLOW = Exception("The current node timed out during startup.\nThis could happen …")


@pytest.mark.parametrize("failure", [SLOW, SystemExit(1), RuntimeError("no raylet")])
def test_ray_that_starts_slowly_is_given_time(monkeypatch, failure):
    fake = FakeRay([failure] * 3)
    monkeypatch.setattr(cluster, "ray_module", lambda: fake)
    with cluster.connect():
        assert fake.addresses == [None] * 4


def test_ray_that_does_not_start_is_an_error_of_one_line(monkeypatch):
    fake = FakeRay([SLOW] * 100)
    monkeypatch.setattr(cluster, "ray_module", lambda: fake)
    with pytest.raises(UserError, match="does not start .*startup.*try again") as error:
        with cluster.connect():
            pytest.fail("connected")
    assert "\n" not in str(error.value)
    assert 2 <= len(fake.addresses) == fake.left < 10


def test_a_cluster_that_cannot_be_joined_is_an_error_of_one_line(monkeypatch):
    fake = FakeRay([RuntimeError("Version mismatch:\n    Ray: 2.1")])
    monkeypatch.setattr(cluster, "ray_module", lambda: fake)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    with pytest.raises(UserError, match="10.0.0.7:6379 cannot be joined .Version mis"):
        with cluster.connect():
            pytest.fail("connected")
    assert fake.addresses == ["10.0.0.7:6379"]


@pytest.mark.parametrize("text", ["nowhere", "host:", ":1", "host:0", "ray://host:1x"])
def test_an_address_of_another_form_is_named(text):
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        with cluster.connect(text):
            pytest.fail("connected")


def test_an_address_where_nobody_answers_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            ConnectionError, match=f"no Ray cluster answers at {address}"
        ):
            with cluster.connect(address):
                pytest.fail("connected")


@pytest.mark.parametrize("package", ["ray", "pyarrow"])
def test_a_missing_package_is_named_with_its_pip_line(monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=package) as caught:
        recommending.recommend_all(tmp_path, CODES, tmp_path / "out")
    assert 'pip install "fhn_jax[cluster]"' in str(caught.value)


def test_an_index_that_another_node_lacks_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="every node needs the index at this"):
        open_index(tmp_path / "none", "", CODES)


@pytest.mark.slow
def test_the_command_line_needs_no_cluster(tmp_path):
    workdir = write_run(tmp_path)
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        code, out, err = run(
            ["recommend-all", "--workdir", workdir, "--k", 2],
            env={"RAY_TMPDIR": folder},
        )
        assert code == 0, err
    assert parquet.read_table(workdir / "recommendations").num_rows == 16
    assert "8 users in 1 file" in out and f"wrote {workdir / 'recommendations'}" in out


@pytest.mark.slow
def test_the_command_line_names_an_address_where_nobody_answers(tmp_path):
    workdir, out = write_run(tmp_path / "run"), tmp_path / "out"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = run(
            ["recommend-all", "--workdir", workdir, "--out", out]
            + ["--ray-address", address]
        )
    assert code == 1
    assert f"error: no Ray cluster answers at {address}" in err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
