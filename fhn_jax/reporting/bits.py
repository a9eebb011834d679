"""Charts and a table of the bits: balance, correlation, matching weights."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from fhn_jax.codes import Codes
from fhn_jax.reporting import charts
from fhn_jax.reporting.charts import Axes, Theme
from fhn_jax.reporting.page import section


def bits_section(folder: Path, codes: Codes) -> str:
    """How much the bits say; `folder` gets the charts."""
    signs = {
        modality: (np.concatenate(arrays) > 0) * 2.0 - 1
        for modality, arrays in codes.to_numpy().items()
    }
    balance = {name: values.mean(axis=0) for name, values in signs.items()}
    balance["users"] = ((codes.user_codes() > 0) * 2.0 - 1).mean(axis=0)
    correlation = {name: _correlations(values) for name, values in signs.items()}

    def draw_balance(axes: Axes, theme: Theme) -> None:
        axes.axhline(0, color=theme.muted, lw=1, ls=(0, (3, 3)))
        for name, means in balance.items():
            label = "users" if name == "users" else f"{name} codes"
            axes.plot(np.sort(means), color=theme.series[name], lw=2, label=label)
        axes.set(xlabel="bits, sorted", ylabel="mean of the bit", ylim=(-1.05, 1.05))
        axes.legend(loc="upper left")

    def draw_correlation(axes: Axes, theme: Theme) -> None:
        bins = np.linspace(-1, 1, 61)
        for name, values in correlation.items():
            if not values.size:
                continue
            style = {"bins": bins, "density": True, "color": theme.series[name]}
            axes.hist(values, histtype="stepfilled", alpha=0.18, **style)
            axes.hist(values, histtype="step", lw=1.8, label=f"{name} codes", **style)
        axes.set(xlabel="correlation of two bits", ylabel="density", xlim=(-1, 1))
        axes.legend(loc="upper left")

    def draw_weights(axes: Axes, theme: Theme) -> None:
        axes.axhline(0, color=theme.muted, lw=1, ls=(0, (3, 3)))
        for name, color in (("lambda_user", "users"), ("lambda_item", "binary")):
            values = np.sort(getattr(codes, name))
            label = f"{name[7:]} term"
            axes.plot(values, color=theme.series[color], lw=2, label=label)
        axes.set(xlabel="bits, sorted", ylabel="matching weight λ")
        axes.legend(loc="upper left")

    figures = [
        charts.figure(
            folder,
            "bits-balance",
            draw_balance,
            "Balance of the bits",
            "0: the bit is +1 for half of the items; ±1: it says nothing.",
        )
    ]
    if any(values.size for values in correlation.values()):
        figures.append(
            charts.figure(
                folder,
                "bits-correlation",
                draw_correlation,
                "Correlation between bits",
                "Narrow around 0: every bit says something of its own.",
            )
        )
    if codes.hash_types:
        figures.append(
            charts.figure(
                folder,
                "bits-weights",
                draw_weights,
                "Matching weights",
                "What each bit counts in the user term and in the item term.",
            )
        )
    return section(
        "Bits",
        _weight_note(codes),
        f'<div class="charts">{"".join(figures)}</div>'
        f"{_bits_table(codes, signs, balance, correlation)}",
    )


def _correlations(signs: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " _"]:
    """Correlation of each pair of bits that are not constant."""
    varying = signs[:, signs.std(axis=0) > 0]
    if varying.shape[1] < 2:
        return np.zeros(0)
    matrix = np.corrcoef(varying, rowvar=False)
    return matrix[np.triu_indices(len(matrix), k=1)]


def _bits_table(
    codes: Codes,
    signs: Mapping[str, np.ndarray],
    balance: Mapping[str, np.ndarray],
    correlation: Mapping[str, np.ndarray],
) -> str:
    head = ("Codes", "Number", "Distinct", "Mean |balance|", "Constant bits")
    head = (*head, "Mean |correlation|")
    rows = []
    for name, means in balance.items():
        packed = codes.users
        if name != "users":
            packed = np.concatenate(codes.items[name])
        values = correlation.get(name, np.zeros(0))
        rows.append(
            (
                "users" if name == "users" else f"{name}, items",
                f"{len(packed):,}",
                f"{len(np.unique(packed, axis=0)):,}",
                f"{np.abs(means).mean():.3f}",
                f"{int((np.abs(means) == 1).sum())} of {codes.bits}",
                f"{np.abs(values).mean():.3f}" if values.size else "–",
            )
        )
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    agree = ""
    if {"visual", "text"} <= signs.keys():
        share = float((signs["visual"] == signs["text"]).mean())
        agree = (
            f'<p class="note">Visual and text code of the same item agree in '
            f"{share:.1%} of the bits (50 % by chance).</p>"
        )
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return (
        f'<div class="scroll"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{agree}"
    )


def _weight_note(codes: Codes) -> str:
    learned = {
        0: f"No weight per bit is learned; one factor on the user term, α = "
        f"{codes.alpha:.3f}.",
        1: "A weight per bit is learned for the user term.",
        2: "A weight per bit is learned for the item term.",
        3: "A weight per bit is learned for both terms (T3).",
    }
    return learned[codes.hash_types]
