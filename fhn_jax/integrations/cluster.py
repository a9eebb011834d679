"""Joining a Ray cluster, and leaving it."""

import atexit
import contextlib
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from fhn_jax.errors import InputError, MissingPackageError, UnreachableError

# Seconds in which the head of a cluster must accept a connection.
_HEAD_TIMEOUT_S = 5
# Ray gives its processes half a minute to start, which a busy machine may not give them.
_STARTS = 4


@contextlib.contextmanager
def connect(address: str = "") -> Iterator[None]:
    """Joins a Ray cluster, and leaves it at the end.

    A process that is connected already stays so, at the end too.

    Args:
      address: of the head, as `ray start --head` prints it, such as 10.0.0.7:6379. If
        empty, `ray.init()` decides: the cluster of RAY_ADDRESS, one that runs on this
        machine, or a new one on this machine, which ends with the context.
    Raises:
      ModuleNotFoundError: ray is not installed.
      ValueError: an address of another form; or the process is connected to another.
      ConnectionError: nobody answers at the address, or Ray does not start.
    """
    ray = ray_module()
    if address:
        _check_address(address)
    if ray.is_initialized():
        current = ray.get_runtime_context().gcs_address
        if address not in ("", current):
            raise InputError(
                f"this process is connected to the Ray cluster {current}, not to "
                f"{address}; leave it first with ray.shutdown()"
            )
        yield
        return
    _start(ray, address or os.environ.get("RAY_ADDRESS", ""))
    try:
        yield
    finally:
        ray.shutdown()


def join(address: str) -> None:
    """Joins the Ray cluster at an address until this process ends, as a server does.

    Raises: as `connect`.
    """
    stop = signal.getsignal(signal.SIGTERM)
    joined = contextlib.ExitStack()
    joined.enter_context(connect(address))
    atexit.register(joined.close)
    # Ray would end the process at once: a server finishes what it has in work.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _start(ray: Any, address: str) -> None:
    """Joins the cluster at an address, or starts one on this machine.

    Raises:
      UnreachableError: it does not start, or cannot be joined.
    """
    # Ray reads them when it starts: it reports how it is used, and waits 30 s.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    tries = 1 if address else _STARTS
    for left in reversed(range(tries)):
        try:
            ray.init(
                address or None,
                logging_level=logging.WARNING,
                log_to_driver=False,
                **options,
            )
            return
        # Whatever stops one of its processes; it also ends the program.
        except (Exception, SystemExit) as error:
            ray.shutdown()
            if left and not isinstance(error, ValueError | TypeError):
                continue
            reason = " ".join(str(error).split())[:300]
        if address:
            raise UnreachableError(
                f"the Ray cluster at {address} cannot be joined ({reason}); look with "
                "`ray status` whether it runs, and with the same version of Ray"
            )
        raise UnreachableError(
            f"Ray does not start on this machine ({reason}); try again when the machine "
            "is less busy and has room in memory and in /tmp/ray, or start a cluster "
            "with `ray start --head` and give its address"
        )


def _check_address(address: str) -> None:
    """Raises unless something listens there: Ray itself would wait, then exit."""
    host, _, port = address.rpartition(":")
    known = re.fullmatch("[0-9]{1,5}", port)
    if not host or not known or not 0 < int(port) < 2**16:
        raise InputError(
            f"the Ray address is {address!r}, expected HOST:PORT as `ray start --head` "
            "prints it, such as 10.0.0.7:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _HEAD_TIMEOUT_S).close()
    except OSError as error:
        raise UnreachableError(
            f"no Ray cluster answers at {address} ({error}); start one with `ray start "
            "--head`, or leave the address out to use this machine alone"
        ) from None


def ray_module() -> Any:
    """The package, imported when it is used.

    Raises:
      MissingPackageError: it is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingPackageError(
            'a cluster needs the package ray: pip install "fhn_jax[cluster]"'
        ) from None
    return ray
