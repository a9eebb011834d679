"""A process that is killed loses no acknowledged like and doubles none."""

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import pytest
from scale import SCALE

from fhn_jax.web.state import State

CODES = "c" * 64
THREADS = 6
# Likes one after the other in each thread, each with a key of its own; says when one is
# acknowledged. Those that an earlier process began are repeated with their keys. After so
# many likes of the first thread it is killed when one is stored and not acknowledged.
PROGRAM = """
import os, signal, sys, threading
from fhn_jax.web.state import State

url, codes, token, last, *begun = sys.argv[1:]
state = State(url, codes)
visitor = state.visitor(token).id
print("ready", flush=True)

def like(thread):
    number = int(begun[thread])
    while True:
        key = f"{thread}-{number}"
        with state.changing(visitor) as change:
            if change.answer_of(key, key) is None:
                event = change.judge((thread, number, 0), True)
                change.keep_answer(key, key, str(event))
        if thread == 0 and number == int(begun[0]) + int(last):
            os.kill(os.getpid(), signal.SIGKILL)
        sys.stdout.write(f"{thread} {number}\\n")
        sys.stdout.flush()
        number += 1

for thread in range(len(begun)):
    threading.Thread(target=like, args=(thread,)).start()
"""


@pytest.mark.slow
def test_likes_are_there_once_after_kills_at_random_moments(tmp_path):
    url = f"sqlite:///{tmp_path}/visitors.sqlite"
    state = State(url, CODES)
    token = state.create(None)
    visitor = state.visitor(token).id
    state.close()
    rng = random.Random(0)
    acknowledged = Counter()
    repeated = 0
    for turn in range(4 * SCALE):
        begun = [str(acknowledged[thread]) for thread in range(THREADS)]
        # Every other process ends in the worst moment, the others at any.
        last = str(2 if turn % 2 else 10**9)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url, CODES, token, last, *begun],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        if turn % 2:
            repeated += 1
        else:
            time.sleep(rng.uniform(0, 0.5))
            process.kill()
        for line in process.stdout.read().splitlines(keepends=True):
            thread, _, number = line.partition(" ")
            if number.endswith("\n"):
                acknowledged[int(thread)] = int(number) + 1
        process.wait()
        process.stdout.close()
    state = State(url, CODES)
    judged = [one.items[:2] for one in state.all_judgements(visitor)]
    state.close()
    assert len(judged) == len(set(judged))
    for thread, count in acknowledged.items():
        stored = sorted(number for one, number in judged if one == thread)
        # One more may be stored whose acknowledgement was cut off.
        assert stored == [*range(len(stored))] and count <= len(stored) <= count + 1
    assert sum(acknowledged.values()) > 3 and repeated
    with contextlib.closing(sqlite3.connect(tmp_path / "visitors.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        # A like that was stored twice is one row of a second number.
        numbers = database.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'judgements'"
        ).fetchone()
    assert numbers == (len(judged),)


# Takes judgements back, one after the other; is killed when the last one is gone and that
# is not acknowledged.
UNDO = """
import os, signal, sys
from fhn_jax.web.state import State

url, codes, token, first, last = sys.argv[1:]
state = State(url, codes)
visitor = state.visitor(token).id
for number in range(int(first), int(last) + 1):
    with state.changing(visitor) as change:
        if change.answer_of(f"undo {number}", "undo") is None:
            undone = change.undo()
            change.keep_answer(f"undo {number}", "undo", str(undone.event))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_an_undo_that_is_repeated_after_a_kill_takes_one_like_back(tmp_path):
    url = f"sqlite:///{tmp_path}/visitors.sqlite"
    state = State(url, CODES)
    token = state.create(None)
    visitor = state.visitor(token).id
    for number in range(10):
        with state.changing(visitor) as change:
            change.judge((number, 0, 0), True)
    state.close()
    # Each begins with the one whose acknowledgement the last one owes.
    for first, last in ((0, 2), (2, 4), (4, 5)):
        arguments = [url, CODES, token, str(first), str(last)]
        done = subprocess.run([sys.executable, "-c", UNDO, *arguments], check=False)
        assert done.returncode == -signal.SIGKILL
    state = State(url, CODES)
    left = sorted(one.items[0] for one in state.all_judgements(visitor))
    state.close()
    assert left == [0, 1, 2, 3]
