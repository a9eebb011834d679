"""Outfits in the report: rankings of some users, and questions with their answers."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Int

from fhn_jax.codes import Scorer
from fhn_jax.data.catalogue import Catalogue, Split
from fhn_jax.evaluation.evaluators import ranked_outfits, scores_by_user
from fhn_jax.evaluation.metrics import auc
from fhn_jax.reporting.page import (
    CROSS_CHOSEN,
    TICK,
    TICK_CHOSEN,
    TICK_RIGHT,
    Pictures,
    card,
    escape,
    ordinal,
    section,
)

NUM_USERS = 6  # whose rankings are shown
NUM_RANKED = 8  # best-ranked outfits of each
NUM_LEARNED = 5  # training outfits of each
NUM_QUESTIONS = 6


def users_section(
    catalogue: Catalogue,
    split: Split,
    scores: Mapping[str, Float32[np.ndarray, " _"]],
    pictures: Pictures,
) -> str:
    """Rankings of some users, from the best-predicted to the worst.

    Args:
      scores: binary scores of the outfits of the split, "liked" and "random".
    """
    users = scores_by_user(split, "random", scores["liked"], scores["random"])
    aucs = {user: auc(*of_user) for user, of_user in users.items()}
    by_auc = sorted(aucs, key=lambda user: -aucs[user])
    count = min(NUM_USERS, len(aucs))
    places = np.linspace(0, len(aucs) - 1, count).round().astype(int).tolist()
    cards = [
        _user_card(catalogue, split, scores, pictures, by_auc[place], place, aucs)
        for place in places
    ]
    return section(
        "What it recommends",
        f"{count} of {len(aucs)} users, from the best-predicted to the worst. By binary "
        "codes alone, the model ranks the test outfits that a user liked among random "
        'ones. The right ones have a green frame and a <span class="tick">✓</span>. The '
        "bar shows all ranks, best on the left, with a green mark at each liked outfit.",
        "".join(cards),
    )


def _user_card(
    catalogue: Catalogue,
    split: Split,
    scores: Mapping[str, Float32[np.ndarray, " _"]],
    pictures: Pictures,
    user: int,
    place: int,
    aucs: Mapping[int, float],
) -> str:
    items, liked, values = ranked_outfits(
        user,
        split.positives,
        split.negatives["random"],
        scores["liked"],
        scores["random"],
    )
    cards = [
        card(
            pictures.outfit(items[rank]) + pictures.titles(items[rank]),
            f"<b>{rank + 1}</b>{TICK if liked[rank] else ''}"
            f'<span class="num">{values[rank]:.2f}</span>',
            "hit" if liked[rank] else "",
        )
        for rank in range(min(NUM_RANKED, len(items)))
    ]
    train = catalogue.splits["train"].positives
    mine = train.items[train.users == user]
    rows = np.linspace(0, len(mine) - 1, min(NUM_LEARNED, len(mine))).astype(int)
    learned = [
        card(pictures.outfit(mine[row]) + pictures.titles(mine[row]), "", "")
        for row in rows
    ]
    hits = int(liked[:NUM_RANKED].sum())
    expected = NUM_RANKED * liked.mean()
    return f"""<article class="user">
<header><h3>User {escape(pictures.names.user(user))}</h3><p>AUC {aucs[user]:.3f}, {ordinal(place + 1)} of {len(aucs)}
 · {hits} of the {len(cards)} best are liked ({expected:.1f} by chance)</p></header>
{_strip(liked)}
<div class="two"><div><h4>Learned from <small>{len(rows)} of {len(mine):,} liked outfits
 in training</small></h4><ul class="outfits">{"".join(learned)}</ul></div>
<div><h4>Ranked best <small>of {len(items):,} test outfits</small></h4>
<ul class="outfits">{"".join(cards)}</ul></div></div></article>"""


def _strip(liked: np.ndarray) -> str:
    """All ranks from left to right, with a mark at each liked outfit."""
    marks = "".join(
        f'<rect x="{rank}" width="1" height="1"/>' for rank in np.flatnonzero(liked)
    )
    return (
        f'<svg class="strip" viewBox="0 0 {len(liked)} 1" preserveAspectRatio="none" '
        f'role="img" aria-label="Ranks of the {int(liked.sum())} liked outfits among '
        f'{len(liked)}, best left">{marks}</svg>'
    )


def questions_section(
    catalogue: Catalogue, split: Split, scorer: Scorer, pictures: Pictures
) -> str:
    """Some questions with their candidates in the model's order; "" without any."""
    questions = catalogue.fitb.get(split.name)
    if questions is None:
        return ""
    rows = np.linspace(0, len(questions) - 1, min(NUM_QUESTIONS, len(questions)))
    rows = np.unique(rows.round().astype(int))
    cards = []
    for row in rows:
        items = questions.items[row]
        user = int(questions.users[row])
        users = np.full(len(items), user)
        scores = scorer.score("binary", users, items)
        cards.append(_question_card(catalogue, pictures, user, items, scores))
    return section(
        "Fill in the blank",
        f"Which item did the user wear with the others? {len(rows)} of "
        f"{len(questions):,} questions, evenly spaced, not picked. Candidates stand in "
        "the model’s order.",
        f'<div class="questions">{"".join(cards)}</div>',
    )


def _question_card(
    catalogue: Catalogue,
    pictures: Pictures,
    user: int,
    items: Int[np.ndarray, "c s"],
    scores: Float32[np.ndarray, " c"],
) -> str:
    gap = np.flatnonzero((items != items[0]).any(axis=0)).tolist()
    is_answer = np.arange(len(items)) == 0
    order = np.lexsort((is_answer, -scores))
    cells = []
    for place, candidate in enumerate(order):
        shown = dict.fromkeys(
            pictures.item(catalogue.slots[slot], int(items[candidate, slot]))
            for slot in gap
        )
        right, chosen = candidate == 0, place == 0
        mark = TICK_RIGHT if right else ""
        if chosen:
            mark = TICK_CHOSEN if right else CROSS_CHOSEN
        state = "hit" if right else "miss" if chosen else ""
        stack = f'<div class="stack">{"".join(shown)}</div>'
        number = f'<span class="num">{scores[candidate]:.2f}</span>'
        cells.append(card(stack, f"{mark}{number}", state))
    solved = order[0] == 0
    verdict = "right" if solved else "wrong"
    return (
        f'<article class="question"><h4>User {escape(pictures.names.user(user))} <small>{verdict}</small></h4>'
        f'<div class="row">{pictures.outfit(items[0], gap)}'
        f'<ul class="outfits">{"".join(cells)}</ul></div></article>'
    )
