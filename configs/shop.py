r"""A shop's own data, with settings that follow from what there is of it.

python -m fhn_jax.main --config configs/shop.py --config.data.root=data/shop
python -m fhn_jax.main --config configs/shop.py:bits=64 --config.data.root=data/shop
python -m fhn_jax.main --config configs/shop.py:smoke --workdir runs/smoke
"""

from fhn_jax.configs import common

from fhn_jax.errors import InputError

# Up to so many likes an epoch takes seconds, and twenty of them help.
_FEW, _MANY = 50_000, 1_000_000


def get_config(arg=None):
    """The config before the data are known; for its argument see `common`."""
    config = common.fashion_hash_net(("visual", "text"), _argument("clothing", arg))
    config.data.root = config.data.root or "data/shop"
    config.data.variant = config.data.variant or "shop"
    return config


def choose(facts, arg=None, given=()):
    """The config for some data, and why.

    Args:
      facts: `items` and `likes`, numbers; `photos`, whether there are any, and `cut_outs`,
        of them; `text` and `features`, names of vectors; `disliked`, whether train
        negatives are given.
      arg: the config's argument, whose values win.
      given: keys of settings that take the place of what is chosen.
    Returns:
      the config; and lines that say what was chosen, and not what is given.
    """

    def is_given(name, key):
        named = [part.partition("=")[0] for part in (arg or "").split(",")]
        return name in named or key in given

    said, chosen, modalities = [], ["clothing"], []
    if facts["features"] and "beside=" not in (arg or ""):
        name = facts["features"][0]
        modalities.append("visual")
        chosen.append(f"features={name}")
        if not is_given("features", "data.features"):
            said.append(
                f"features={name}: vectors of the shop's own replace an image network"
            )
    elif facts["photos"]:
        modalities.append("visual")
        if not is_given("backbone", "model.backbone.name"):
            said.append(
                "backbone=tiny: a small network for photos, trained from the start"
            )
        if facts["cut_outs"] and not any(
            named in (arg or "") for named in ("backbone=", "masked")
        ):
            chosen.append("masked")
            said.append("masked: it sees the garments alone, as `cut-out` found them")
    if facts["text"]:
        name = "title" if "title" in facts["text"] else facts["text"][0]
        modalities.append("text")
        chosen.append(f"text={name}")
        if not is_given("text", "data.text"):
            said.append(f"text={name}: vectors of the items' texts")
    if not modalities:
        raise InputError(
            "there are no photos, no titles and no vectors of items, so nothing to train "
            "on; import the catalogue with one of them"
        )
    if len(modalities) == 1:
        said.append(f"modalities={modalities[0]}: there is nothing else")
    bits = 256 if facts["items"] <= 50_000 else 128
    if modalities == ["text"] and facts["items"] <= 5_000:
        bits = 512
    chosen.append(f"bits={bits}")
    size = f"{facts['items']:,} items and {facts['likes']:,} likes"
    if not is_given("bits", "model.bits"):
        said.append(f"bits={bits}: {size}")
    config = common.fashion_hash_net(tuple(modalities), _argument(*chosen, arg))
    if "smoke" not in (arg or ""):
        likes = facts["likes"]
        sizes = {
            "train.epochs": 20 if likes <= _FEW else 10 if likes <= _MANY else 5,
            # As many steps an epoch as help, however few likes there are; and no batch
            # is larger than all of them.
            "train.batch_size": min(
                *(2048, max(64, 2 ** (likes // 8).bit_length() // 2)),
                2 ** (likes.bit_length() - 1),
            ),
        }
        config.update_from_flattened_dict(sizes)
        left = [f"{key}={value}" for key, value in sizes.items() if key not in given]
        if left:
            said.append(f"{', '.join(left)}: {size}")
    if facts["disliked"]:
        said.append(
            "train.negatives=random_fixed would train on what users disliked, too"
        )
    return config, said


def _argument(*parts):
    return ",".join(filter(None, parts))


def sweep(add):
    """What `fhn-jax sweep` compares: code lengths, weights and VSE margins."""
    common.sweep(add, ("visual", "text"))
