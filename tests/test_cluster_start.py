"""A Ray that starts slowly or not at all."""

import pytest

from fhn_jax.errors import UserError
from fhn_jax.integrations import cluster


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
