"""Ctrl-C and SIGTERM: a run stops after a step, with its state saved."""

import signal
import sys
import threading

import jax
from tqdm import tqdm

from fhn_jax.training import sharding


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM stopped the run after its state was saved."""


class StopSignal:
    """Notes Ctrl-C and SIGTERM, so that a loop can save and stop; twice: at once.

    A context manager. Of several processes, all stop after the same step when one of
    them gets a signal: jax, which takes SIGTERM there, tells the others.
    """

    def __init__(self):
        self.noted, self._previous = False, {}
        self._several = jax.process_count() > 1

    def __enter__(self):
        numbers = (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM)
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def asked(self, step: int) -> bool:
        """Whether to stop after a step; to be asked once after each."""
        return sharding.stop_agreed(step) if self._several else self.noted

    def _note(self, number, frame):
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True
        tqdm.write("stopping: saving the state first", file=sys.stderr)
        if self._several:
            signal.raise_signal(signal.SIGTERM)
