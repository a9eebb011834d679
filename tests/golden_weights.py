"""What the parity tests share: golden files, weights by recipe, batches, closeness."""

from pathlib import Path

import numpy as np
import pytest

from fhn_jax.data.batches import Batch

HERE = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared" / "golden"
SLOTS = {3: (0, 1, 2), 4: (0, 0, 1, 2)}


def find(name):
    """The path of a golden file: of the repository, else of the shared folder."""
    for folder in (HERE, SHARED):
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"{name} is large and kept outside of the repository, in {SHARED}")


def load(name):
    """The arrays of a golden file."""
    with np.load(find(f"{name}.npz"), allow_pickle=False) as file:
        return dict(file)


def part(arrays, prefix):
    """The arrays whose names start with `prefix`, which is taken off."""
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


def recipe_weights(case, seed):
    """Weights drawn as those of the golden file were, checked against the recipe."""
    draws = np.random.RandomState(int(seed))
    weights = {}
    for line in find(f"recipes/{case}.tsv").read_text().splitlines()[1:]:
        name, shape, rule, *checks = line.split("\t")
        shape = tuple(map(int, shape.split("x")))
        x = draws.standard_normal(shape)
        match rule:
            case "one":
                x = 1 + 0.1 * x
            case "bias":
                x *= 0.05
            case "he":
                x *= np.sqrt(2 / np.prod(shape[1:]))
        x = x.astype(np.float32)
        found = (x.sum(dtype=np.float64), x.flat[0], x.flat[-1])
        np.testing.assert_allclose(found, [float(c) for c in checks], rtol=1e-6)
        weights[name] = x
    return weights


def normal(draws, shape, scale=1.0):
    """Float32 draws of N(0, scale), as the golden files' inputs were made."""
    return (scale * draws.standard_normal(tuple(shape))).astype(np.float32)


def outfit_batch(positive, negative, users):
    """A training batch of one positive and one negative each, in which no item repeats.

    Args:
      positive, negative: [b, s, …] inputs of the items of each outfit; or dicts of them
        by modality.
      users: [b] ids.
    Returns:
      the Batch; modality → [n, …] inputs of its items; rows of each category; slots.
    """
    inputs = {m: np.stack([positive[m], negative[m]], axis=1) for m in positive}
    shape = next(iter(inputs.values())).shape[:3]
    slots = np.array(SLOTS[shape[2]])
    outfits = np.empty(shape, np.int32)
    rows = {modality: [] for modality in inputs}
    segments = []
    for category in range(slots.max() + 1):
        mine = slots == category
        count = shape[0] * shape[1] * int(mine.sum())
        outfits[:, :, mine] = np.arange(count).reshape(*shape[:2], -1)
        segments.append(count)
        for modality, x in inputs.items():
            rows[modality].append(x[:, :, mine].reshape(count, *x.shape[3:]))
    batch = Batch(
        users=users.astype(np.int32),
        outfits=outfits,
        weights=np.ones(len(users), np.float32),
        items=np.arange(sum(segments), dtype=np.int32),
        paired=np.ones(sum(segments), bool),
    )
    rows = {modality: np.concatenate(parts) for modality, parts in rows.items()}
    return batch, rows, tuple(segments), tuple(slots.tolist())


def in_reference_order(by_category, batch, slots):
    """Rows of items sample by sample, positive before negative, no first of two tops."""
    rows = [
        np.asarray(by_category[category])[batch.outfits[:, :, slot]]
        for slot, category in enumerate(slots)
        if slots[slot : slot + 2] != (category, category)
    ]
    rows = np.stack(rows, axis=2)
    return rows.reshape(-1, rows.shape[-1])


def assert_close(got, want, tolerance):
    """No entry differs by more than `tolerance`, relative to the largest of `want`."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())
