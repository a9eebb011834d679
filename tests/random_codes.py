"""Random codes and latents for tests, of made-up items or of a catalogue."""

import numpy as np

from fhn_jax import files
from fhn_jax.codes import Codes, Latents
from fhn_jax.data.item_names import ItemNames
from fhn_jax.data.layout import read_catalogue


def random_codes(seed=0, *, counts=(5, 4, 3), num_users=6, scaled=False, **changes):
    """Codes with learned weights (T3), 16 bits, two modalities; `changes` win."""
    rng = np.random.default_rng(seed)
    bits = changes.get("bits", 16)
    modalities = changes.get("modalities", ("visual", "text"))
    hash_types = changes.get("hash_types", 3)
    weights = rng.normal(1, 0.3, (2, bits)).astype(np.float32)
    ones = np.ones(bits, np.float32)
    fields = {
        "bits": bits,
        "alphabet": "pm1",
        "modalities": modalities,
        "categories": ("top", "bottom", "shoe"),
        "slots": (0, 1, 2),
        "hash_types": hash_types,
        "zero_item_term": False,
        "zero_user_term": False,
        "dataset": "made_up",
        "dataset_checksum": "d" * 64,
        "config_hash": "c" * 12,
        "items": {
            modality: tuple(
                rng.integers(0, 256, (n, bits // 8), dtype=np.uint8) for n in counts
            )
            for modality in modalities
        },
        "item_scales": {
            modality: tuple(rng.uniform(0.2, 1, n).astype(np.float16) for n in counts)
            for modality in modalities
        }
        if scaled
        else None,
        "users": rng.integers(0, 256, (num_users, bits // 8), dtype=np.uint8),
        "user_latents": rng.uniform(-1, 1, (num_users, bits)).astype(np.float32),
        "lambda_user": weights[0] if hash_types in (1, 3) else ones,
        "lambda_item": weights[1] if hash_types in (2, 3) else ones,
        "alpha": 0.75 if hash_types == 0 else 1.0,
        "names": tuple(
            tuple(f"{category}{i:03d}.jpg" for i in range(n))
            for category, n in zip(
                changes.get("categories", ("top", "bottom", "shoe")),
                counts,
                strict=False,
            )
        ),
    }
    return Codes(**fields | changes)


SHOP = ("top", "bottom", "shoe", "dress", "outerwear", "bag")


def shop_codes(seed=0, *, counts=(6, 5, 4, 5, 3, 4), **changes):
    """Codes of outfits of three, four and two pieces, and of bags alone."""
    fields = {
        "categories": SHOP,
        "slots": (0, 1, 2, 3, 4, 5),
        "templates": ((0, 1, 2), (0, 1, 2, 4), (2, 3), (5,)),
    }
    return random_codes(seed, counts=counts, **fields | changes)


def names_of(codes):
    """The names of items of no shop."""
    return ItemNames(codes.categories, codes.num_items, codes.names)


def outfits_of(rng, codes, count):
    """Rows of items, -1 where the outfit's template has no such slot."""
    items = np.full((count, len(codes.slots)), -1)
    which = rng.integers(len(codes.templates), size=count)
    for number, template in enumerate(codes.templates):
        rows = np.flatnonzero(which == number)
        for slot in template:
            items[rows, slot] = rng.integers(
                codes.num_items[codes.slots[slot]], size=len(rows)
            )
    return items


def made_codes(rng, slots, names, counts, bits=8, **changes):
    """Small codes of all kinds, most often with many ties."""
    kinds = [
        rng.integers(-1, 2, (2, bits)),
        np.zeros((2, bits)),
        rng.integers(-4, 5, (2, bits)) / 4,
        rng.normal(0.2, 0.5, (2, bits)),
    ]
    weights = kinds[rng.integers(len(kinds))].astype(np.float32)
    modalities = (("visual", "text"), ("text",))[rng.integers(2)]
    scaled = rng.random() < 0.3
    # Few different codes, so that many outfits tie.
    few = rng.integers(0, 256, (rng.integers(1, 6), bits // 8), dtype=np.uint8)

    def items(n):
        if rng.random() < 0.5:
            return few[rng.integers(len(few), size=n)]
        return rng.integers(0, 256, (n, bits // 8), dtype=np.uint8)

    def scales(n):
        return rng.choice([0.0, 0.5, 0.75, 3.0], n).astype(np.float16)

    latents = rng.integers(-2, 3, (2, bits)) / 2
    if rng.random() < 0.3:
        latents = rng.uniform(-1, 1, (2, bits))
    return random_codes(
        bits=bits,
        num_users=2,
        alphabet=("pm1", "01")[rng.integers(2)],
        modalities=modalities,
        categories=names,
        slots=slots,
        zero_item_term=bool(rng.random() < 0.1),
        zero_user_term=bool(rng.random() < 0.1),
        items={m: tuple(items(n) for n in counts) for m in modalities},
        item_scales={m: tuple(scales(n) for n in counts) for m in modalities}
        if scaled
        else None,
        user_latents=latents.astype(np.float32),
        lambda_user=weights[0],
        lambda_item=weights[1],
        names=None,
        **changes,
    )


def codes_of(catalogue, seed=0, **changes):
    """Random codes of a catalogue's items and users."""
    return random_codes(
        seed,
        counts=tuple(len(names) for names in catalogue.names),
        num_users=catalogue.num_users,
        categories=catalogue.categories,
        slots=catalogue.slots,
        templates=catalogue.templates,
        dataset=catalogue.dataset,
        dataset_checksum=catalogue.checksum,
        names=catalogue.names,
        **changes,
    )


def latents_of(codes, seed=0):
    """Random relaxed item codes that belong to `codes`."""
    rng = np.random.default_rng(seed)
    items = {
        modality: tuple(
            rng.uniform(-1, 1, (n, codes.bits)).astype(np.float32)
            for n in codes.num_items
        )
        for modality in codes.modalities
    }
    return Latents(items, codes.sha256())


def clustered_codes(seed=0, *, counts, styles, bits=64, noise=0.05, **changes):
    """Codes of items that are noisy copies of a few styles."""
    rng = np.random.default_rng(seed)
    items = {}
    for modality in ("visual", "text"):
        centres = rng.integers(0, 256, (styles, bits // 8), dtype=np.uint8)
        items[modality] = tuple(
            centres[np.arange(count) % styles]
            ^ np.packbits(rng.random((count, bits)) < noise, axis=1)
            for count in counts
        )
    return random_codes(seed, counts=counts, bits=bits, items=items, **changes)


def run_of(root, variant="8"):
    """A run beside a data root: a folder with random codes, and which data they are of."""
    folder = root.parent / "run"
    codes_of(read_catalogue(root, variant)).save(folder / "codes.safetensors")
    config = {"data": {"root": str(root), "variant": variant}}
    files.write_json(folder / "config.json", config)
    return folder
