"""Models that make vectors of texts, by name.

`hashed` needs nothing. Others are named LIBRARY:MODEL, where MODEL is a name on the
Hugging Face hub or the path of a folder, and are installed with
`pip install "fhn_jax[text]"`.
"""

import contextlib
import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from fhn_jax.errors import InputError, MissingFileError, MissingPackageError, nearest

_WORD = re.compile(r"[^\W_]+(?:['’.&/-][^\W_]+)*")


# From texts to float32 vectors [n, f] of unit length; an empty text may get zeros.
TextModel = Callable[[Sequence[str]], np.ndarray]


class HashedText:
    """Signed feature hashing of the words of a text and of their character n-grams.

    A word counts 1 + log(how often it occurs), its n-grams count as much together as
    the square root of their number. The vector of a text depends on nothing but the
    text, and is the same on every machine. Nothing is learned, so nothing is downloaded
    and the texts may be in any language.

    Args:
      width: of the vectors.
    Source: Weinberger et al., "Feature hashing for large scale multitask learning",
      ICML 2009; n-grams with word boundaries as in Bojanowski et al., TACL 2017.

    >>> red, reds, jeans = HashedText()(["Red shirt", "red SHIRTS", "blue jeans"])
    >>> bool(red @ reds > 0.5 > 0.2 > red @ jeans)
    True
    """

    ngram = 3

    def __init__(self, width: int = 512):
        self.width = width
        # Words come again and again; an entry is about 0.3 KB.
        self._features = functools.lru_cache(1 << 17)(self._features)

    def __call__(self, texts: Sequence[str]) -> Float32[np.ndarray, "n f"]:
        features, weights, rows = [], [], []
        for row, text in enumerate(texts):
            for word, weight in _weights(text).items():
                features.append(self._features(word))
                weights.append(weight)
                rows.append(row * self.width)
        table = np.zeros((len(texts), self.width))
        if features:
            sizes = [len(columns) for columns, _ in features]
            columns, values = map(np.concatenate, zip(*features, strict=True))
            table = np.bincount(
                np.repeat(rows, sizes) + columns,
                values * np.repeat(weights, sizes),
                minlength=table.size,
            ).reshape(table.shape)
        lengths = np.linalg.norm(table, axis=1, keepdims=True)
        return (table / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    def _features(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """Columns and signed values of a word and its n-grams."""
        padded, n = f"<{word}>", self.ngram
        grams = [padded[k : k + n] for k in range(len(padded) - n + 1)]
        weight = len(grams) ** -0.5
        hashes = [_hash(word), *(_hash(f"#{gram}") for gram in grams)]
        columns = [(each >> 1) % self.width for each in hashes]
        values = [1.0, *[weight] * len(grams)]
        signed = [v if h & 1 else -v for v, h in zip(values, hashes, strict=True)]
        return np.array(columns, np.int64), np.array(signed)


def make_text_model(name: str) -> TextModel:
    """The model of a name.

    Args:
      name: "hashed", "hashed:WIDTH", "model2vec:MODEL" or
        "sentence-transformers:MODEL".
    Raises:
      FileNotFoundError: there is no such model.
      ModuleNotFoundError: its library is not installed.
      ValueError: the name is none of these.
    """
    library, _, model = name.partition(":")
    if library == "hashed":
        if model and not (model.isdecimal() and 0 < int(model) <= 1 << 16):
            raise InputError(f"model {name!r}: expected hashed:WIDTH, 1 to 65536 wide")
        return HashedText(int(model)) if model else HashedText()
    if library not in _LIBRARIES or not model:
        raise InputError(
            f"model {name!r}: expected hashed, or {' or '.join(_LIBRARIES)} with a "
            f"model, such as model2vec:minishlab/potion-base-8M"
            f"{nearest(library, ('hashed', *_LIBRARIES))}"
        )
    with loading(name, extra="text"):
        return _LIBRARIES[library](model)


@contextlib.contextmanager
def loading(name: str, extra: str) -> Iterator[None]:
    """Loads a published model; what may go wrong is an error that names it.

    Args:
      name: of the model, as the user gave it.
      extra: of the package, whose dependencies the model may need.
    Raises:
      ModuleNotFoundError: a package is not installed.
      FileNotFoundError: there is no such model.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"model {name!r} needs the package {error.name}: "
            f'pip install "fhn_jax[{extra}]"'
        ) from None
    # What the libraries raise where the hub or the folder has no such model.
    except (OSError, ValueError, RuntimeError) as error:
        raise MissingFileError(
            f"model {name!r} cannot be loaded ({error}); expected a model on the "
            "Hugging Face hub or a folder, with its weights as safetensors"
        ) from error


def _model2vec(model: str) -> TextModel:
    """Static embeddings of tokens; the library reads safetensors alone."""
    from model2vec import StaticModel

    return _unit(StaticModel.from_pretrained(model).encode)


def _sentence_transformers(model: str) -> TextModel:
    from sentence_transformers import SentenceTransformer

    # Weights may be pickles, which run code; the code of a model does anyhow.
    network = SentenceTransformer(
        model, trust_remote_code=False, model_kwargs={"use_safetensors": True}
    )
    return _unit(functools.partial(network.encode, show_progress_bar=False))


def _unit(encode: Callable[[list[str]], Any]) -> TextModel:
    def vectors(texts: Sequence[str]) -> Float32[np.ndarray, "n f"]:
        found = np.asarray(encode(list(texts)), np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.where(lengths > 0, lengths, 1)

    return vectors


# By the name before the colon.
_LIBRARIES = {
    "model2vec": _model2vec,
    "sentence-transformers": _sentence_transformers,
}


def words(text: str) -> list[str]:
    """The words of a text, in one spelling of upper and lower case and of Unicode.

    >>> words("Ｔ-Shirt, Größe 38 (H&M)")
    ['t-shirt', 'grösse', '38', 'h&m']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _weights(text: str) -> dict[str, float]:
    counts: dict[str, int] = {}
    for word in words(text):
        counts[word] = counts.get(word, 0) + 1
    return {w: 1.0 if n == 1 else 1 + float(np.log(n)) for w, n in counts.items()}


# Three letters come again and again too; an entry is about 0.2 KB.
@functools.lru_cache(1 << 17)
def _hash(token: str) -> int:
    digest = hashlib.blake2b(token.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
