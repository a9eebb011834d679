r"""FHN-T3, text only, 128 bits, Polyvore-630.

python -m fhn_jax.main --config configs/text_t3.py
python -m fhn_jax.main --config configs/text_t3.py:data=519,hash=tanh,bits=64
python -m fhn_jax.main --config configs/text_t3.py:smoke --workdir runs/smoke
"""

from fhn_jax.configs import common


def get_config(arg=None):
    """The config; for its argument see `common.fashion_hash_net`."""
    return common.fashion_hash_net(("text",), arg)


def sweep(add):
    """What `fhn-jax sweep` compares: code lengths and matching weights."""
    common.sweep(add, ("text",))
