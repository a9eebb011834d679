r"""Whether the page learns: visitors with a hidden taste click, and what they are shown.

    python benchmarks/learning.py --base BASE --judge JUDGE --root ../shared/data/clothing_outfits --variant 40

BASE is the workdir of a network that never saw the visitors (of the first 32 users:
base_0 in the --workdir of clothing_cold_start.py), JUDGE that of one which knows them (of
all 40: the README's command for clothing_outfits, with a --workdir). Stored
outfits are random ones of the test items. A visitor is one of the last 8 users, and likes
the tenth of them that JUDGE scores highest for this user: chance is .1. Each visitor sees
12 looks to start with and likes three, those that JUDGE scores highest of them: each is a
click. Then the visitor sees a page of 12, judges its first card, and gets the next page,
up to 30 clicks (--picks 0: all of them). Several draws of stored outfits make more
visitors of the same users. The share is of liked outfits among the 12 that are shown,
none of which was judged before. The constants of the recommender were chosen on other
users, 24 to 31; never choose them by what this prints.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

try:
    from benchmarks import harness
except ModuleNotFoundError:  # as `python benchmarks/learning.py`
    import harness

from fhn_jax.codes import Codes, Scorer
from fhn_jax.data.layout import read_catalogue
from fhn_jax.recommender import Recommender
from fhn_jax.retrieval.searcher import Searcher
from fhn_jax.web import schemas
from fhn_jax.web.service import Service
from fhn_jax.web.state import State

CLICKS, PAGE = 30, 12
OUTFITS, LIKED = 4000, 0.1


def visit(
    service: Service,
    scores: dict[tuple[int, ...], float],
    explore: float,
    picks: int,
) -> tuple[list[float], int]:
    """The share of liked outfits on each page, and the distinct pieces of the first.

    Args:
      scores: of the outfits, above 0 for those that the visitor likes.
      explore: of `Outfits.recommend`.
      picks: looks that the visitor likes at the start; until then the page is that start.
    Returns:
      shares before each click and after the last, and the number of pieces.
    """
    token = service.visitors.create(None)

    def judge(outfit: schemas.OutfitCard, liked: bool) -> None:
        items = {item.category: item.item for item in outfit.items}
        request = schemas.Judgement(items=items, liked=liked)
        service.visitors.judge(service.visitors.find(token), request)

    def score(outfit: schemas.OutfitCard) -> float:
        return scores[tuple(int(item.item) for item in outfit.items)]

    shares, pieces = [], set()
    looks = []
    if picks:
        looks = service.outfits.start(service.visitors.find(token), PAGE).outfits
    best = sorted(looks, key=score, reverse=True)[:picks]
    for click in range(CLICKS + 1):
        visitor = service.visitors.find(token)
        shown = looks
        if click >= len(best):
            shown = service.outfits.recommend(visitor, PAGE, explore).outfits
        if not click:
            pieces = {(p.category, p.item) for one in shown for p in one.items}
        shares.append(float(np.mean([score(outfit) > 0 for outfit in shown])))
        if click < len(best):
            judge(best[click], True)
        elif click < CLICKS:
            judge(shown[0], score(shown[0]) > 0)
    return shares, len(pieces)


def main() -> None:
    """Prints the shares by the number of clicks."""
    parser = harness.parser(__doc__)
    parser.set_defaults(repeats=3)
    parser.add_argument("--base", type=Path, required=True, help="workdir that serves")
    parser.add_argument("--judge", type=Path, required=True, help="workdir that judges")
    parser.add_argument("--root", type=Path, required=True, help="of the data")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--users", type=_span, default=range(32, 40), help="32-39")
    parser.add_argument("--explore", type=float, default=0.2)
    parser.add_argument("--picks", type=int, default=3, help="looks liked at the start")
    options = parser.parse_args()
    catalogue = read_catalogue(options.root, options.variant)
    served, judge = (
        Codes.load(folder / "codes.safetensors")
        for folder in (options.base, options.judge)
    )
    test = catalogue.splits["test"].positives.items
    pools = [np.unique(test[:, slot]) for slot in range(test.shape[1])]
    shares, pieces = [], []
    for repeat in range(options.repeats):
        rng = np.random.default_rng(repeat)
        outfits = np.unique(
            np.stack([rng.choice(pool, OUTFITS) for pool in pools], axis=1), axis=0
        )
        for user in options.users:
            scores = Scorer(judge).score(
                "asymmetric", np.full(len(outfits), user), outfits
            )
            above = scores - np.nextafter(np.quantile(scores, 1 - LIKED), -np.inf)
            above = dict(zip(map(tuple, outfits.tolist()), above.tolist(), strict=True))
            with tempfile.TemporaryDirectory() as folder:
                state = State(f"sqlite:///{folder}/visitors.sqlite", served.sha256())
                recommender = Recommender(served, Searcher.in_memory(served, outfits))
                service = Service(recommender, state, None, outfits=len(outfits))
                found = visit(service, above, options.explore, options.picks)
                shares.append(found[0])
                pieces.append(float(found[1]))
                service.close()
    table = np.array(shares)
    rows = [
        harness.Row("serve/learning", "chance", "share liked", (LIKED,)),
        harness.Row("serve/learning", "first page", "distinct pieces", tuple(pieces)),
    ]
    for clicks in (0, 1, 3, 5, 10, 20, 30):
        values = tuple(table[:, clicks].tolist())
        rows.append(
            harness.Row("serve/learning", f"after {clicks} clicks", "share", values)
        )
        mean = (float(np.mean(values)),)
        rows.append(
            harness.Row("serve/learning", f"after {clicks} clicks, mean", "share", mean)
        )
    harness.report(rows, options.json)


def _span(text: str) -> range:
    """Users "32-39" as a range."""
    try:
        first, last = map(int, text.split("-"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 32-39") from None
    return range(first, last + 1)


if __name__ == "__main__":
    main()
