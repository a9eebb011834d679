"""Reports what is wrong or odd about a data set, in text and as an HTML page.

    fhn-jax inspect data/shop --out runs/inspection

The layout is checked, then splits (leaks, duplicates), negatives and questions that are
right answers, users with few likes, missing or damaged vectors and images, equal
photos, and the balance of categories. Each finding is an error, a warning or a note, with a
count, examples and a remedy. The exit status is 1 if there is an error, and
0 otherwise. What needs no image is checked and shown before every training as well.
"""

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from fhn_jax.data_tools.build_lmdb import progress_bar

from fhn_jax.data.audit import likes_of_users
from fhn_jax.data.inspection import Inspection, Table, inspect_data, tables
from fhn_jax.program import Arguments, run_program

_WIDTH = 88


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax inspect", __doc__)
    parser.add_argument("root", metavar="ROOT", help="data root, with tuples_VARIANT")
    parser.add_argument("--variant", help="of the outfits; default: the only one")
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, help="gets the page, inspection.html"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="decode every image, and find damaged and nearly equal ones",
    )
    options = parser.parse_args(arguments)
    with progress_bar("reading") as progress:
        found = inspect_data(
            options.root, options.variant, full=options.full, progress=progress
        )
    print("\n".join(report_lines(found)))
    if options.out is not None:
        from fhn_jax.reporting.inspection import write_inspection

        print(f"\nwrote {write_inspection(options.out, found)}")
    if found.count("error"):
        sys.exit(1)


def report_lines(found: Inspection) -> Iterator[str]:
    """The report as lines of text."""
    catalogue = found.catalogue
    yield f"{catalogue.root}/tuples_{catalogue.variant}: {found.verdict}"
    for table in tables(catalogue):
        yield ""
        yield from _table(table)
    likes = likes_of_users(catalogue)
    yield ""
    yield (
        f"train outfits of a user: {likes.min():,} to {likes.max():,}, median "
        f"{np.median(likes):,.0f}, mean {likes.mean():,.1f}"
    )
    if found.items.images is not None:
        sizes = list(found.items.sizes.items())
        shown = ", ".join(f"{n:,} of {w}x{h}" for (w, h), n in sizes[:3])
        others = sum(count for _, count in sizes[3:])
        more = f", {others:,} of other sizes" if others else ""
        yield f"images in {found.items.images.path}: {shown or 'none'}{more}"
        if not found.full:
            yield "of images, headers alone were read; --full decodes them all"
    for finding in found.findings:
        yield ""
        yield f"{finding.level}: {finding}"
        for example in finding.examples:
            yield "    " + textwrap.shorten(example, 4 * _WIDTH, placeholder=" …")
        if finding.has_more:
            yield "    …"
        yield from textwrap.wrap(
            finding.remedy, _WIDTH, initial_indent="  → ", subsequent_indent="    "
        )


def _table(table: Table) -> Iterator[str]:
    """A table with its columns aligned, names to the left and counts to the right."""
    header = [table.title, *table.header[1:]]
    rows = ([name, *(f"{n:,}" for n in counts)] for name, counts in table.rows)
    cells = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        name, *counts = row
        right = (f"{c:>{w}}" for c, w in zip(counts, widths[1:], strict=True))
        yield "  ".join([f"{name:<{widths[0]}}", *right])


if __name__ == "__main__":
    run_program(main)
