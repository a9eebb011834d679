"""Processes that have imported everything already, so that killing one costs little.

They are forked from a server that has imported the packages and used none of them: it
has no thread, no jax and no LMDB that a fork would break.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["benchmarks.reliability.writers"])


class CrashError(Exception):
    """A process that ended without an answer, by a signal or an exit of its own."""


def prepare() -> None:
    """Lets processes share what they compile, and compile fast; before the first one."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def start(function: Callable, *arguments: Any) -> Any:
    """Starts a process that calls a function of a module."""
    process = context.Process(target=_quietly, args=(function, *arguments))
    process.start()
    return process


def ask(function: Callable, *arguments: Any) -> Any:
    """What a function of a module returns in a process of its own.

    Raises:
      CrashError: the process ended without an answer.
    """
    ours, theirs = context.Pipe()
    process = start(_answer, theirs, function, *arguments)
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        raise CrashError(f"ended with {process.exitcode}") from None
    process.join()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _answer(connection: Connection, function: Callable, *arguments: Any) -> None:
    try:
        answer = function(*arguments)
    except Exception as error:
        answer = error
    try:
        connection.send(answer)
    except Exception:  # an error that cannot be pickled
        connection.send(RuntimeError(f"{type(answer).__name__}: {answer}"))


def _quietly(function: Callable, *arguments: Any) -> None:
    """What it says is of no interest here."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    if "RELIABILITY_DEBUG" not in os.environ:
        os.dup2(nothing, 2)
    function(*arguments)
