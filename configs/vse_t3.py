r"""FHN-T3, visual + text, 128 bits, Polyvore-630.

python -m fhn_jax.main --config configs/vse_t3.py
python -m fhn_jax.main --config configs/vse_t3.py:data=519,hash=tanh,bits=64
python -m fhn_jax.main --config configs/vse_t3.py:data=630,features=resnet34
python -m fhn_jax.main --config configs/vse_t3.py:smoke --workdir runs/smoke
"""

from fhn_jax.configs import common


def get_config(arg=None):
    """The config; for its argument see `common.fashion_hash_net`."""
    return common.fashion_hash_net(("visual", "text"), arg)


def sweep(add):
    """What `fhn-jax sweep` compares: code lengths, weights and VSE margins."""
    common.sweep(add, ("visual", "text"))
