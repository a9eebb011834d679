"""A PostgreSQL server of a test's own, to ask, to stop and to hang."""

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import pytest


class Server:
    """A server that listens on a socket in its folder.

    Args:
      folder: of its own, that the user who runs it can reach.
    Attributes:
      url: for SQLAlchemy.
    """

    def __init__(self, folder):
        self.url = f"postgresql+psycopg://fhn@/postgres?host={folder}"
        self._folder = folder
        self._run("initdb", "-A", "trust", "-U", "fhn", "--no-sync")
        self.start()

    def start(self):
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}'"
        log = self._folder / "log"
        self._run("pg_ctl", "-w", "-l", log, "-o", f"{options} -F", "start")

    def stop(self):
        self._run("pg_ctl", "-m", "immediate", "stop")

    def hang(self):
        """It is there, and answers nothing."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def go_on(self):
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def _processes(self):
        first = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def _run(self, program, *arguments):
        who = {}
        if os.getuid() == 0:
            # It refuses to run as root.
            user = pwd.getpwnam("postgres")
            who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [_binaries() / program, "-D", self._folder / "data", *arguments],
            capture_output=True,
            text=True,
            cwd=self._folder,
            **who,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _binaries():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A `Server`."""
    if _binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    folder = tmp_path_factory.mktemp("postgres")
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        folder = Path(shutil.copytree(folder, f"/tmp/fhn-postgres-{os.getpid()}"))
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()
        if os.getuid() == 0:
            shutil.rmtree(folder)
