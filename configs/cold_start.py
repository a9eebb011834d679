r"""New users on a trained run: only they are learned, all else is frozen.

python -m fhn_jax.main cold-start --config configs/cold_start.py:data=53,base=runs/vse_t3
python -m fhn_jax.main cold-start --config configs/cold_start.py:data=53,method=similarity
python -m fhn_jax.main cold-start --config configs/cold_start.py:data=53,method=fit
python -m fhn_jax.main cold-start --config configs/cold_start.py:data=53,method=random
python -m fhn_jax.main cold-start --config configs/cold_start.py:data=53,method=study
"""

from fhn_jax.configs import common

from fhn_jax.errors import InputError

MODALITIES = {"t3": ("visual",), "text_t3": ("text",), "vse_t3": ("visual", "text")}
FROZEN = ("backbone", "visual", "text", "matching")
OWN = ("base", "method", "of")


def get_config(arg=None):
    """The config of the base run, with all but the users frozen.

    Args:
      arg: base=…, the workdir of the base run; of=…, the name of its config; method=…,
        one of retrain, similarity, fit, random, study; and the arguments of the base run.
    """
    parts = (arg or "").split(",")
    own = [part for part in parts if part.partition("=")[0] in OWN]
    own = common.parse_arg(",".join(own), base="", method="retrain", of="vse_t3")
    if own.of not in MODALITIES:
        raise InputError(
            f"config argument of={own.of!r}: expected one of {', '.join(MODALITIES)}"
        )
    rest = ",".join(part for part in parts if part.partition("=")[0] not in OWN)
    config = common.fashion_hash_net(MODALITIES[own.of], rest)
    config.cold_start = dict(
        base=own.base or f"runs/{own.of}",
        method=own.method,
        beta=0.5,  # of the similarity code
        epsilon=0.5,
        strength=0.06,  # of the prior of the fit
        shrinkage=0.2,
    )
    for settings in (config, config.get("demo", config)):
        settings.optimizer.rates.update(dict.fromkeys(FROZEN, 0.0))
    if {"clothing", "clothing=1", "clothing=true"} & set(parts):
        # A few users of some ten outfits each do not fill the batches of `clothing`.
        config.train.batch_size = 16
    return config
