"""One page that shows what a run learned: figures, curves, and outfits as pictures.

`write_report` makes a self-contained folder (index.html, PNG charts, small JPEG
pictures of items) that opens in any browser, on a phone, in light and in dark mode,
without a network.
"""

from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.codes import Codes, Latents, Scorer
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.images import ImageStore
from fhn_jax.data.item_names import read_names
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.evaluation.evaluators import check_same_data
from fhn_jax.reporting import bits, outfits, page, results, scores, training


def write_report(
    workdir: Path,
    catalogue: Catalogue,
    codes: Codes,
    latents: Latents | None,
    images: ImageStore | None,
) -> Path:
    """Writes workdir/report, replacing the one that was there.

    Reads workdir/results.json (which names the split) and workdir/metrics.jsonl if
    there is one.

    Args:
      workdir: of a run that was evaluated.
      catalogue: its data set.
      codes: its codes.
      latents: its relaxed item codes, for the curves of the relaxed score.
      images: pictures of the items; None shows their names instead.
    Returns:
      the path of index.html.
    Raises:
      FileNotFoundError: the run was not evaluated.
      ValueError: codes or results.json are of another data set or run, or a line of
        metrics.jsonl is not a JSON object.
    """
    workdir = Path(workdir)
    check_same_data(codes, catalogue)
    evaluated = _read_results(workdir / "results.json", codes)
    log = training.read_log(workdir / "metrics.jsonl")
    split = catalogue.splits[evaluated["split"]]
    scorer = Scorer(codes, latents)
    scored = {
        which: {
            kind: scorer.score(which, table.users, table.items)
            for kind, table in {"liked": split.positives, **split.negatives}.items()
        }
        for which in scorer.which
    }
    with files.replaced_folder(workdir / "report") as folder:
        names = read_names(catalogue.root, catalogue.variant, codes)
        pictures = page.Pictures(folder, catalogue, images, names)
        sections = [
            results.headline(evaluated, codes, catalogue),
            results.results_section(evaluated),
            outfits.users_section(catalogue, split, scored["binary"], pictures),
            outfits.questions_section(catalogue, split, scorer, pictures),
            scores.scores_section(folder, split, scored),
            training.training_section(folder, log),
            bits.bits_section(folder, codes),
        ]
        text = page.document(catalogue, evaluated, sections)
        (folder / "index.html").write_text(text, encoding="utf-8")
    return workdir / "report" / "index.html"


def _read_results(path: Path, codes: Codes) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file; run evaluate-rank, evaluate-accuracy and fitb first"
        )
    results = files.read_sealed(path, "evaluate again")
    if results.get("codes_sha256") != codes.sha256():
        raise InputError(
            f"{path} is of codes {results.get('codes_sha256')!r}, expected "
            f"{codes.sha256()!r}; evaluate these codes first"
        )
    return results
