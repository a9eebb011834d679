"""Relaxed item codes, in a file beside the codes that they belong to."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from fhn_jax import files
from fhn_jax.codes import artifact, checks, tensor_file
from fhn_jax.codes.artifact import Codes
from fhn_jax.errors import InputError, MissingFileError

# In the workdir of a run.
FILE = "latents.safetensors"
FORMAT = "fhn_jax.latents"
# Those of codes that are about to take the place of others.
_NEXT = "latents.next.safetensors"


@dataclass(frozen=True, eq=False)
class Latents:
    """Relaxed item codes, which only the relaxed score needs.

    Attributes:
      items: modality -> relaxed codes per category, float32 [n, d], not scaled.
      codes_sha256: checksum of the codes they belong to.
    Raises:
      ValueError: not float32 matrices of finite values.

    >>> ones = np.ones((2, 8), np.float32)
    >>> codes = Codes.from_embeddings({"top": ones, "shoe": ones})
    >>> Latents({"visual": (ones, 0.5 * ones)}, codes.sha256())
    Latents(8 bits, visual, 4 items)
    """

    items: Mapping[str, tuple[np.ndarray, ...]]
    codes_sha256: str

    def __post_init__(self):
        for modality, categories in self.items.items():
            for number, latents in enumerate(categories):
                key = f"latents/{modality}/{number}"
                checks.check_array(key, latents, np.float32, (None, None))

    def __repr__(self) -> str:
        first = next(iter(self.items.values()), ())
        bits = first[0].shape[1] if first else 0
        modalities = "+".join(self.items)
        return f"Latents({bits} bits, {modalities}, {len(self):,} items)"

    def __len__(self) -> int:
        """Number of items, of all categories."""
        return sum(map(len, next(iter(self.items.values()), ())))

    def save(self, path: str | os.PathLike, codes: Codes) -> None:
        """Writes the latents of `codes`, whole or not at all.

        Raises:
          ValueError: they are not those of `codes`.
        """
        self.check(codes)
        with files.atomic_path(path) as temporary:
            self._write(temporary, codes)

    def save_with(self, workdir: str | os.PathLike, codes: Codes) -> None:
        """Writes both files of a run, which change together.

        The latents are whole on the disk, under another name, before the codes are
        renamed. Should the process be killed just then, `beside` finds them there.

        Raises:
          ValueError: they are not those of `codes`.
        """
        path, following = Path(workdir) / FILE, Path(workdir) / _NEXT
        with files.atomic_path(Path(workdir) / artifact.FILE) as of_codes:
            codes.write(of_codes)
            self.save(following, codes)
        os.replace(following, path)
        files.sync_folder(workdir)

    @classmethod
    def beside(cls, workdir: str | os.PathLike, codes: Codes) -> "Latents | None":
        """Reads the latents of a run's codes; None where there are none.

        Raises:
          ValueError: as `load`.
        """
        path, following = Path(workdir) / FILE, Path(workdir) / _NEXT
        if following.exists():
            try:
                return cls.load(following, codes)
            # Of codes that never came; or they came meanwhile.
            except (InputError, MissingFileError):
                pass
        return cls.load(path, codes) if path.exists() else None

    @staticmethod
    def remove(workdir: str | os.PathLike) -> None:
        """Removes the latents of a run, before other codes come to be without any."""
        for name in (FILE, _NEXT):
            (Path(workdir) / name).unlink(missing_ok=True)

    def _write(self, path: Path, codes: Codes) -> None:
        tensors = tensor_file.flat("latents", codes.categories, self.items)
        metadata = {"format": FORMAT, "version": str(tensor_file.VERSION)}
        metadata["codes_sha256"] = self.codes_sha256
        tensor_file.write(path, tensors, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike, codes: Codes) -> "Latents":
        """Opens the latents of `codes`, mapped into memory.

        Raises:
          FileNotFoundError: no such file.
          ValueError: another format, damaged, or latents of other codes.
        """
        tensors, metadata = tensor_file.read(path, FORMAT, mapped=True)
        try:
            tensor_file.expect_keys(metadata, ("codes_sha256",))
            items = {
                modality: tuple(
                    tensor_file.take(tensors, f"latents/{modality}/{category}")
                    for category in codes.categories
                )
                for modality in codes.modalities
            }
            latents = cls(items, metadata.get("codes_sha256", ""))
            latents.check(codes)
            tensor_file.expect_none_left(tensors)
        except InputError as error:
            raise InputError(f"{path}: {error}; {tensor_file.REMEDY}") from None
        return latents

    def check(self, codes: Codes) -> None:
        """Raises ValueError unless these latents belong to `codes`."""
        expected = codes.sha256()
        checks.expect(
            "codes_sha256",
            self.codes_sha256 == expected,
            self.codes_sha256,
            f"{expected}, the checksum of the codes",
        )
        checks.check_per_category(
            "latents",
            self.items,
            codes.modalities,
            codes.categories,
            np.float32,
            (codes.bits,),
            codes.num_items,
        )

    def without_item(self, category: int, item: int, codes: Codes) -> "Latents":
        """The same with nothing of an item; see `Codes.without_item`.

        Args:
          codes: that the latents belong to then.
        """
        items = artifact.erased(self.items, category, item)
        return Latents(items, codes.sha256())

    def item_vectors(
        self, modality: str, category: int, ids: Int[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n d"]:
        """Relaxed codes of some items of one category."""
        return self.items[modality][category][ids]
