import os
import stat

import jax
import pytest

from fhn_jax.training import compile_cache


@pytest.fixture(autouse=True)
def no_cache_yet():
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_cache_is_in_a_folder_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = os.umask(0)
    try:
        folder = compile_cache.enable()
    finally:
        os.umask(before)
    assert folder.is_relative_to(tmp_path / "fhn_jax")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert jax.config.jax_compilation_cache_dir == str(folder)


def test_a_folder_given_to_jax_is_left_alone(tmp_path):
    jax.config.update("jax_compilation_cache_dir", "")
    assert compile_cache.enable(tmp_path / "other") is None
    assert jax.config.jax_compilation_cache_dir == ""
    assert not (tmp_path / "other").exists()


def open_to_others(folder):
    folder.mkdir()
    folder.chmod(0o777)


def a_link(folder):
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def below_a_file(folder):
    folder.write_text("")


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (open_to_others, "is open to others"),
        (a_link, "is a link"),
        (below_a_file, "cannot be made"),
    ],
)
def test_a_folder_that_is_not_private_is_not_used(tmp_path, capsys, make, fault):
    make(tmp_path / "cache")
    assert compile_cache.enable(tmp_path / "cache") is None
    assert fault in capsys.readouterr().err
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_of_another_user_is_not_used(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert compile_cache.enable(tmp_path / "cache") is None
    assert "belongs to user" in capsys.readouterr().err
