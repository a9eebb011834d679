"""Compiles the loops of search and composition, which else happens when first used.

    fhn-jax compile

Once after an installation, on the kind of machine and with the `NUMBA_CACHE_DIR`, if any,
of those who search, compose or serve. It takes about a minute of processor time.
"""

from collections.abc import Sequence

from fhn_jax.program import Arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Compiles, and says where the compiled loops are kept."""
    Arguments("fhn-jax compile", __doc__).parse_args(argv)
    from fhn_jax.retrieval.compiling import compile_loops

    print(f"compiled loops are in {compile_loops()}")
