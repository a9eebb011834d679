"""A tensorflow_datasets builder of the Polyvore-U layout: `polyvore_u`.

    import tensorflow_datasets as tfds
    import fhn_jax.data_tools.polyvore_u

    where = tfds.download.DownloadConfig(manual_dir="data/polyvore")
    data = tfds.load(
        "polyvore_u/630", download_and_prepare_kwargs={"download_config": where}
    )

Training in this repository reads the layout itself; the builder is for programs that
know tensorflow_datasets. With `builder_kwargs={"file_format": "array_record"}`
ArrayRecord files are written, which `tfds.data_source` reads by index; TFRecord, the
default, is read as a tf.data pipeline by `tfds.load`. Nothing is downloaded.

An example is one outfit as one user sees it. Its splits are the files of the layout:

| split                                          | outfits                             |
|------------------------------------------------|-------------------------------------|
| `train`, `val`, `test`                         | positives                           |
| `train_negatives`, …, `train_hard_negatives`,… | what goes with them                 |
| `fitb_val`, `fitb_test`                        | all candidates of all questions     |

`group` joins them: the positive, by its line in the layout's file, that a negative
belongs to; or the question of a candidate. `label` is 1 for positives and answers.

An outfit holds the images and text vectors of its items, so that it needs no table
beside it, and an item is stored as often as it is worn. A whole variant 630 with all ten
negatives takes over 200 GB: `PolyvoreUConfig` takes fewer, or leaves out images or text.
"""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32, Int32

from fhn_jax.data.catalogue import Catalogue, Outfits
from fhn_jax.data.images import ImageStore, open_images
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.pictures import garment_photo
from fhn_jax.data.vectors import read_text_vectors
from fhn_jax.errors import InputError


@dataclasses.dataclass(eq=False, kw_only=True)
class PolyvoreUConfig(tfds.core.BuilderConfig):
    """Which variant is read, and what is taken of it.

    A data set of one's own is built with
    `tfds.load("polyvore_u", builder_kwargs={"config": PolyvoreUConfig(...)})`.

    Attributes:
      name: of the config; the folder of what is built is called so.
      variant: reads `tuples_<variant>`.
      image_size: height and width of the images, which must be so; None: no images.
      text_dim: length of the text vectors, which must be so; None: no text.
      negatives: the first so many negatives of each positive; None: all.
    """

    variant: str
    image_size: int | None = 291
    text_dim: int | None = 2400
    negatives: int | None = None


def _config(variant: str, description: str) -> PolyvoreUConfig:
    return PolyvoreUConfig(name=variant, variant=variant, description=description)


class PolyvoreU(tfds.core.GeneratorBasedBuilder):
    """Outfits and the users who like them, see the text of the module."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        _config("630", "630 users; a top, a bottom and a shoe."),
        _config("519", "519 users; one or two tops, a bottom and a shoe."),
        _config("53", "53 users that are new to a model of the 630."),
        _config("32", "32 users that are new to a model of the 519."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the data set in the Polyvore-U layout (images/, sentence_vector/ with "
        "semantic.npz, tuples_<variant>/) into this folder, or name the folder that it "
        "is in: tfds.download.DownloadConfig(manual_dir=...)."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        item = {
            "category": tfds.features.Text(),
            "name": tfds.features.Text(),
            "id": np.int32,
        }
        if config.image_size is not None:
            shape = (config.image_size, config.image_size, 3)
            item["image"] = tfds.features.Image(shape=shape, encoding_format="jpeg")
        if config.text_dim is not None:
            shape = (config.text_dim,)
            item["text"] = tfds.features.Tensor(shape=shape, dtype=np.float32)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Outfits of a top, a bottom and a shoe, and who likes them.",
            features=tfds.features.FeaturesDict(
                {
                    "user": np.int32,
                    "label": tfds.features.ClassLabel(names=["negative", "positive"]),
                    "group": np.int32,
                    "items": tfds.features.Sequence(item),
                }
            ),
            citation=(
                "@inproceedings{lu2019learning, title={Learning Binary Code for "
                "Personalized Fashion Recommendation}, author={Lu, Zhi and Hu, Yang and "
                "Jiang, Yunchao and Chen, Yan and Zeng, Bing}, booktitle={CVPR}, "
                "year={2019}}"
            ),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        config = self.builder_config
        root = Path(dl_manager.manual_dir)
        catalogue = read_catalogue(root, config.variant)
        items = _Items(catalogue, config)
        generators = {}
        for name, split in catalogue.splits.items():
            rows = np.arange(len(split.positives))
            generators[name] = self._generate_examples(
                items, split.positives, np.ones(len(rows), int), rows
            )
            for kind, outfits in split.negatives.items():
                ratio = split.ratio(kind)
                count = ratio if config.negatives is None else config.negatives
                if not 0 < count <= ratio:
                    raise InputError(
                        f"negatives={count}; the {kind} negatives of the {name} split "
                        f"are {ratio} of each positive; expected 1 to {ratio}"
                    )
                kept = np.flatnonzero(np.arange(len(outfits)) % ratio < count)
                suffix = "negatives" if kind == "random" else f"{kind}_negatives"
                generators[f"{name}_{suffix}"] = self._generate_examples(
                    items,
                    Outfits(outfits.users[kept], outfits.items[kept]),
                    np.zeros(len(kept), int),
                    kept // ratio,
                )
        for name, questions in catalogue.fitb.items():
            count, candidates, slots = questions.items.shape
            generators[f"fitb_{name}"] = self._generate_examples(
                items,
                Outfits(
                    np.repeat(questions.users, candidates),
                    questions.items.reshape(-1, slots),
                ),
                np.tile(np.arange(candidates) == 0, count).astype(int),
                np.repeat(np.arange(count), candidates),
            )
        return generators

    def _generate_examples(
        self,
        items: "_Items",
        outfits: Outfits,
        labels: np.ndarray,
        groups: np.ndarray,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in range(len(outfits)):
            yield (
                row,
                {
                    "user": outfits.users[row],
                    "label": int(labels[row]),
                    "group": int(groups[row]),
                    "items": items.of_outfit(outfits.items[row]),
                },
            )


class _Items:
    """What an example says of its items; images are checked when first met."""

    _images: ImageStore | None = None
    _text: Float32[np.ndarray, "n t"] | None = None

    def __init__(self, catalogue: Catalogue, config: PolyvoreUConfig):
        self._catalogue = catalogue
        self._size = config.image_size
        self._plain: set[str] = set()
        if config.image_size is not None:
            self._images = open_images(catalogue.root)
        if config.text_dim is not None:
            self._text = read_text_vectors(catalogue.root, catalogue)
            length = self._text.shape[1]
            if length != config.text_dim:
                raise InputError(
                    f"{catalogue.root}/sentence_vector/semantic.npz has vectors of "
                    f"length {length}; expected text_dim={config.text_dim}; give "
                    f"PolyvoreUConfig(text_dim={length}), or text_dim=None for no text"
                )

    def of_outfit(self, items: Int32[np.ndarray, " s"]) -> list[dict[str, Any]]:
        """The features of the items of one outfit, slot by slot; none of an empty one."""
        catalogue = self._catalogue
        rows = catalogue.global_ids(items)
        features = []
        for category, item, row in zip(catalogue.slots, items, rows, strict=True):
            if item < 0:
                continue
            name = catalogue.names[category][item]
            feature = {
                "category": catalogue.categories[category],
                "name": name,
                "id": item,
            }
            if self._images is not None:
                feature["image"] = self._image(self._images, name)
            if self._text is not None:
                feature["text"] = self._text[row]
            features.append(feature)
        return features

    def _image(self, images: ImageStore, name: str) -> Any:
        """The encoded image as it is stored, or the pixels of one that is changed."""
        (data,) = images.read([name])
        if name not in self._plain:
            photo = garment_photo(data, name)
            height, width, _ = photo.pixels.shape
            if (height, width) != (self._size, self._size):
                raise InputError(
                    f"image {name!r} is {width}x{height}; expected "
                    f"{self._size}x{self._size}; give PolyvoreUConfig(image_size=...) "
                    "of your images, which must all be square and of one size, or "
                    "image_size=None for none"
                )
            if photo.changes:
                return photo.pixels
            self._plain.add(name)
        return io.BytesIO(data)
