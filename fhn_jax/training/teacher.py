"""What a student learns to score like: the mean of many models, as two tables.

A sum over items and pairs of items is all that a model of outfits says, so the mean of
any number of models is a table of users and one of pairs. Codes that learn to score like
it are better than codes that learn from the likes alone: the mean errs less than any of
its models, and tells how much better an outfit is, not only that it is.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fhn_jax import files
from fhn_jax.codes import Codes, tensor_file
from fhn_jax.codes.checks import check_array
from fhn_jax.codes.scoring import SCALE, ScoreForm
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files.reading import sha256_file
from fhn_jax.models.matching import category_pairs
from fhn_jax.training.settings import Settings

FILE = "teacher.safetensors"
FORMAT = "fhn_jax.teacher"
# Entries of both tables: a gibibyte.
MOST = 2**28
_REMEDY = "make it again with the teach command"


class Teacher(NamedTuple):
    """Scores of outfits: mean taste of the items, and mean match of the pairs.

    Attributes:
      taste: [n, u] what each user thinks of each item, by global item id.
      match: [n, n] how well two items go together, symmetric; 0 within a category.
    """

    taste: Any
    match: Any

    def scores(
        self,
        users: Int[Array | np.ndarray, " b"],
        outfits: Int[Array | np.ndarray, "b c s"],
        slots: tuple[int, ...],
    ) -> Float[Array, "b c"]:
        """Scores of candidate outfits.

        Args:
          users: user ids.
          outfits: global item ids by slot, -1 where there is no item.
          slots: the category index of each slot.
        """
        there, ids = outfits >= 0, jnp.maximum(outfits, 0)
        taste = jnp.where(there, self.taste[ids, users[:, None, None]], 0.0).sum(-1)
        score = taste / jnp.maximum(there.sum(-1), 1)
        pairs = category_pairs(slots)
        if not pairs:
            return score
        both = jnp.stack([there[..., j] & there[..., k] for j, k in pairs])
        found = jnp.stack([self.match[ids[..., j], ids[..., k]] for j, k in pairs])
        match = jnp.where(both, found, 0.0).sum(0)
        return score + match / jnp.maximum(both.sum(0), 1)

    def save(self, path: str | os.PathLike, catalogue: Catalogue) -> None:
        """Writes the tables, whole or not at all."""
        metadata = {"format": FORMAT, "version": str(tensor_file.VERSION)}
        metadata["data"] = catalogue.train_checksum
        with files.atomic_path(path) as temporary:
            tensor_file.write(temporary, self._asdict(), metadata)


def load(path: str | os.PathLike, catalogue: Catalogue) -> Teacher:
    """Reads the teacher of a catalogue.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another format, damaged, or a teacher of other data.
    """
    tensors, metadata = tensor_file.read(path, FORMAT, _REMEDY)
    count = catalogue.num_items
    try:
        tensor_file.expect_keys(metadata, ("data",))
        found = Teacher(*(tensor_file.take(tensors, key) for key in Teacher._fields))
        tensor_file.expect_none_left(tensors)
        if metadata.get("data") != catalogue.train_checksum:
            raise InputError(
                f"it is of other data (checksum {metadata.get('data', '')[:12]}) than "
                f"tuples_{catalogue.variant} in {catalogue.root} "
                f"({catalogue.train_checksum[:12]})"
            )
        check_array("taste", found.taste, np.float32, (count, catalogue.num_users))
        check_array("match", found.match, np.float32, (count, count))
    except InputError as error:
        raise InputError(f"{path}: {error}; {_REMEDY}") from None
    return found


def check_size(catalogue: Catalogue) -> None:
    """Raises InputError if the tables of a catalogue are too large to be held."""
    entries = catalogue.num_items * (catalogue.num_items + catalogue.num_users)
    if entries > MOST:
        raise InputError(
            f"a teacher holds a number for each two items and each item and user: "
            f"{catalogue.num_items:,} items and {catalogue.num_users:,} users make "
            f"{entries:,}, expected at most {MOST:,}; train without a teacher"
        )


def of_codes(codes: Codes) -> Teacher:
    """The binary scores of a run."""
    form = ScoreForm.of(codes)
    weight = SCALE * codes.alpha / (codes.bits * len(codes.modalities))
    users = codes.user_codes() * codes.lambda_user
    count = sum(codes.num_items)
    taste = np.zeros((count, codes.num_users), np.float32)
    match = np.zeros((count, count), np.float32)
    category = np.repeat(np.arange(len(codes.num_items)), codes.num_items)
    for modality in codes.modalities:
        items = np.concatenate(codes.item_codes(modality))
        taste += items @ (weight * form.user_weight * users.T)
        match += (items * (codes.lambda_item * form.item_weight)) @ items.T
    match *= SCALE / (codes.bits * len(codes.modalities))
    return Teacher(taste, np.where(category[:, None] == category, 0, match))


def mean(teachers: list[Teacher]) -> Teacher:
    """What several say together, each with the same weight."""
    return Teacher(
        *(
            np.mean(tables, axis=0, dtype=np.float32)
            for tables in zip(*teachers, strict=True)
        )
    )


def path_of(config: Settings) -> Path | None:
    """The teacher that a run learns from, `train.teacher`; None for none."""
    known = "train" in config and "teacher" in config.train
    return Path(config.train.teacher) if known and config.train.teacher else None


def note_teacher(config: Settings) -> None:
    """Notes the checksum of the teacher in `train.teacher_sha256`, and its whole path.

    Raises:
      FileNotFoundError: the file is not there.
      ValueError: it is another file than that noted before.
    """
    path = path_of(config)
    if path is None:
        return
    if not path.is_file():
        raise MissingFileError(f"train.teacher: {path} is no file; {_REMEDY}")
    noted, found = config.train.teacher_sha256, sha256_file(path)
    if noted not in ("", found):
        raise InputError(
            f"{path} has the checksum {found[:12]}, expected {noted[:12]} "
            "(train.teacher_sha256); give the file that the run began with"
        )
    config.train.teacher_sha256 = found
    # A run may be used from another folder.
    config.train.teacher = str(path.absolute())
