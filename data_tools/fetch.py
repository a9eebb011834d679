"""Fetches a data set that its authors publish on the Hugging Face hub.

    fhn-jax fetch polyvore-u data/polyvore
    fhn-jax fetch polyvore-u data/polyvore --variants 630 --no-features

Polyvore-U: the outfits of 630 and of 519 users, and ResNet-34 features of their items.
What is fetched lies in DATA_ROOT/hub, and hub.json has the revision and the SHA-256 of
each file: later fetches take that revision, and files that differ are an error. A fetch
that was interrupted goes on with the files that are missing when it is run again.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.public.polyvore_u import write_variant

from fhn_jax.errors import InputError, MissingPackageError, UnreachableError
from fhn_jax.files import (
    lock,
    read_sealed,
    replaced_folder,
    sha256_file,
    write_sealed,
)
from fhn_jax.program import Arguments, run_program

REPOSITORY = "lzcn/outfit-datasets"
VARIANTS = ("630", "519")
_FOLDER = "polyvore-u"
_OUTFITS = f"{_FOLDER}/original/tuples_{{}}"
_FEATURES = f"{_FOLDER}/features/resnet34"
_RECORD, _STORE = "hub.json", "hub"
_SHOWN = 5


def fetch_polyvore_u(
    root: str | os.PathLike,
    *,
    variants: Sequence[str] = VARIANTS,
    features: bool = True,
    revision: str | None = None,
) -> list[str]:
    """Fetches Polyvore-U into a data root.

    Args:
      root: the data root; may hold other data.
      variants: of `VARIANTS`.
      features: whether to fetch the features of the items, too.
      revision: commit, branch or tag of the data set on the hub; by default that of the
        first fetch, or the newest.
    Returns:
      what was written.
    Raises:
      ModuleNotFoundError: huggingface_hub is not installed.
      ConnectionError: the hub cannot be reached, or has no such data set or revision.
      ValueError: a file differs from what was fetched first, or is not as expected.
    """
    root = Path(root)
    for variant in variants:
        if variant not in VARIANTS:
            raise InputError(
                f"variant {variant!r} is not on the hub; expected {', '.join(VARIANTS)}"
            )
    folders = [_OUTFITS.format(variant) for variant in variants]
    folders += [_FEATURES] if features else []
    with lock(root, "fetching into it"):
        record = root / _RECORD
        known = (
            read_sealed(record, "remove it, and fetch anew") if record.exists() else {}
        )
        commit = _download(
            root / _STORE, folders, revision or known.get("revision"), record
        )
        files = known.get("files", {})
        found = {
            path.relative_to(root / _STORE).as_posix(): path
            for folder in folders
            for path in sorted((root / _STORE / folder).rglob("*"))
            if path.is_file()
        }
        sums = {name: sha256_file(path) for name, path in found.items()}
        _compare(record, files, sums, folders)
        if not known or sums.keys() - files.keys():
            values = {
                "repository": REPOSITORY,
                "revision": known.get("revision", commit),
            }
            write_sealed(record, values | {"files": files | sums})
        return _place(root, variants, features)


def _download(store: Path, folders: Sequence[str], revision: Any, record: Path) -> str:
    """Downloads what is not there yet; returns the commit."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            'fetching needs the package huggingface_hub: pip install "fhn_jax[hub]"'
        ) from error
    endpoint = os.environ.get("HF_ENDPOINT")
    try:
        commit = revision
        if commit is None or not re.fullmatch("[0-9a-f]{40}", commit):
            api = huggingface_hub.HfApi(endpoint=endpoint)
            commit = api.dataset_info(REPOSITORY, revision=revision).sha
        huggingface_hub.snapshot_download(
            REPOSITORY,
            repo_type="dataset",
            revision=commit,
            local_dir=store,
            allow_patterns=[f"{folder}/*" for folder in folders],
            endpoint=endpoint,
        )
    except Exception as error:
        # The library's own errors, and those of the HTTP client that it happens to use.
        module = type(error).__module__.partition(".")[0]
        if not module.startswith(("huggingface_hub", "httpx", "httpcore", "requests")):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        # Where nothing came, nothing is left that looks like data.
        with contextlib.suppress(OSError):
            store.rmdir()
        with contextlib.suppress(OSError):
            store.parent.rmdir()
        raise UnreachableError(
            f"{REPOSITORY} cannot be fetched from the hub: {first}; files that are done "
            f"are kept in {store}, run this again to go on"
        ) from error
    return str(commit)


def _compare(
    record: Path,
    files: dict[str, str],
    sums: dict[str, str],
    folders: Sequence[str],
) -> None:
    """Raises ValueError if a file is not what it was when it was fetched first."""
    for folder in folders:
        if not any(name.startswith(f"{folder}/") for name in sums):
            raise InputError(
                f"{REPOSITORY} has no files in {folder}; is the layout of the data set "
                "another one by now? Give the revision that had it: --revision"
            )
    wrong = [name for name, digest in sums.items() if files.get(name, digest) != digest]
    some = [name for f in folders for name in files if name.startswith(f"{f}/")]
    wrong += [name for name in some if name not in sums]
    fetched = {name.rpartition("/")[0] for name in files}
    wrong += [n for n in sums if n not in files and n.rpartition("/")[0] in fetched]
    if wrong:
        shown = ", ".join(wrong[:_SHOWN]) + (", …" if len(wrong) > _SHOWN else "")
        raise InputError(
            f"{len(wrong):,} files are not what was fetched first, as {record} says: "
            f"{shown}; nothing was changed but {record.parent / _STORE}. To go on with "
            "the first, remove that folder and fetch without --revision; to take the new "
            "ones, use a new data root"
        )


def _place(root: Path, variants: Sequence[str], features: bool) -> list[str]:
    """Puts what was fetched where training looks for it."""
    store, done = root / _STORE, []
    for variant in variants:
        target = root / f"tuples_{variant}"
        with replaced_folder(target) as folder:
            write_variant(store / _OUTFITS.format(variant), folder)
        done.append(f"{target}: outfits of {variant} users")
    if features:
        target = root / "features" / "resnet34"
        with replaced_folder(target) as folder:
            for path in sorted((store / _FEATURES).iterdir()):
                # One copy on the disk; the library replaces files, and changes none.
                os.link(path, folder / path.name)
        done.append(f"{target}: features of the items")
    return done


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax fetch", __doc__)
    parser.add_argument("name", choices=("polyvore-u",), help="of the data set")
    parser.add_argument("root", metavar="DATA_ROOT", help="data root to fetch it into")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        help="numbers of users (default: all)",
    )
    parser.add_argument(
        "--no-features",
        dest="features",
        action="store_false",
        help="fetch the outfits alone",
    )
    parser.add_argument(
        "--revision",
        help="commit, branch or tag on the hub (default: that of the first fetch, or "
        "the newest)",
    )
    options = vars(parser.parse_args(arguments))
    options.pop("name")
    print("\n".join(fetch_polyvore_u(options.pop("root"), **options)))


if __name__ == "__main__":
    run_program(main)
