"""A tiny data set of outfits of four shapes over six categories, for tests."""

import itertools
from pathlib import Path

import numpy as np
from polyvore_u import (
    SPLITS,
    write_images,
    write_lines,
    write_table,
    write_text_vectors,
)

SLOTS = ("top", "bottom", "shoe", "dress", "outerwear", "bag")
# In the order of `Catalogue.templates`. The last two slots are also alone: likes of
# single bags.
TEMPLATES = ((0, 1, 2), (0, 1, 2, 4), (2, 3, 5), (5,))


def write_shapes(
    root,
    *,
    variant="8",
    users=8,
    seed=0,
    templates=TEMPLATES,
    image_size=None,
    positives=(8, 4, 4),
    items=(16, 8, 8),
    ratio=3,
    candidates=4,
    text_dim=24,
):
    """Writes text vectors, the tuples of one variant and, if asked for, images.

    Items are disjoint between the splits. The positives of a user are distinct, and of
    each template in turn. Negatives have the template of their positive; random ones
    are nobody's positives, or for single items not their user's.

    Args:
      root: the folder to write to.
      users, seed, ratio, candidates, text_dim: as of `polyvore_u.write_polyvore_u`.
      templates: slot numbers of each; slots that none has are left out of the files.
      image_size: height and width of the JPEG images, in pixels. None: no images.
      positives: of each user in train, val and test.
      items: of each category in train, val and test.
    Returns:
      the root, as a Path.
    """
    root = Path(root)
    folder = root / f"tuples_{variant}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    used = sorted({slot for template in templates for slot in template})
    slots = [SLOTS[slot] for slot in used]
    templates = [[used.index(slot) for slot in template] for template in templates]
    names = {slot: [f"{slot}{i:03d}.jpg" for i in range(sum(items))] for slot in slots}
    for slot, of_slot in names.items():
        write_lines(folder / f"image_list_{slot}", of_slot)
    if image_size is not None:
        write_images(root, names, image_size, rng)
    write_text_vectors(root, names, text_dim, rng)

    header = ",".join(["user", *slots])
    ends = np.cumsum(items).tolist()
    for split, each, start, end in zip(
        SPLITS, positives, [0, *ends], ends, strict=False
    ):

        def draw(template, taken, start=start, end=end):
            """An outfit that is not in `taken`."""
            while True:
                row = np.full(len(slots), -1)
                row[template] = rng.integers(start, end, len(template))
                if tuple(row.tolist()) not in taken:
                    return tuple(row.tolist())

        own = [set() for _ in range(users)]
        table = []
        for user in range(users):
            for i in range(each):
                row = draw(templates[i % len(templates)], own[user])
                own[user].add(row)
                table.append((user, *row))
        everybody = set().union(*own)

        random, hard, questions = [], [], []
        for user, *row in table:
            filled = np.flatnonzero(np.array(row) >= 0)
            alike = [
                other
                for other in sorted(everybody - own[user])
                if np.array_equal(np.flatnonzero(np.array(other) >= 0), filled)
            ]
            taken = own[user] if len(filled) == 1 else everybody
            for _ in range(ratio):
                random.append((user, *draw(filled, taken)))
                hard.append((user, *alike[rng.integers(len(alike))]))
            slot = rng.choice(filled)
            pool = [i for i in range(start, end) if i != row[slot]]
            question = [user, *row]
            for item in rng.choice(pool, candidates - 1, replace=False).tolist():
                question += [user, *row[:slot], item, *row[slot + 1 :]]
            questions.append(question)
        write_table(folder / f"tuples_{split}_posi", header, table)
        write_table(folder / f"tuples_{split}_nega", header, random)
        write_table(folder / f"tuples_{split}_nega_hard", header, hard)
        if split == "test":
            name = f"fill_in_blank_{split}"
            write_table(folder / name, ",".join([header] * candidates), questions)
    return root


def by_definition(user, items, lambda_user=1.0, lambda_item=1.0, alpha=1.0):
    """The score of an outfit, from the codes of its items: 10 · (user + item term).

    Args:
      items: {category: code} of the items that are there.
    """
    user_term = alpha * np.mean([lambda_user * user * x for x in items.values()])
    products = [
        lambda_item * items[a] * items[b] for a, b in itertools.combinations(items, 2)
    ]
    return 10 * (user_term + (np.mean(products) if products else 0.0))


def outfits_of_all_templates(rng, count, sizes):
    """Item ids, -1 where there is none: so many outfits of each template."""
    rows = np.full((count * len(TEMPLATES), len(SLOTS)), -1)
    for row, template in zip(rows, itertools.cycle(TEMPLATES), strict=False):
        for slot in template:
            row[slot] = rng.integers(sizes[slot])
    return rows
