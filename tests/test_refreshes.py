"""The page of the last refreshes tells what they did."""

import re

import pytest
from runs import act

from fhn_jax import files
from fhn_jax.recommender.publishing import published
from fhn_jax.reporting import refreshes

CURVES = [
    {"step": 2, "epoch": 0.5, "train/loss": 0.7},
    {"step": 4, "epoch": 1.0, "val/loss": 0.6, "val/auc_asymmetric": 0.8},
]


def test_the_page_is_one_file_with_the_last_refreshes_and_their_curves(tmp_path):
    trained = {"curves": CURVES, "before": 0.81, "after": 0.79, "is_good": False}
    changes = {"new items": 1234, "items that are removed": 7}
    last = {"version": 60, "outcome": "fell <&>", "changes": changes, **trained}
    records = [{"version": n, "outcome": f"version {n}"} for n in range(59)]
    files.write_sealed(
        tmp_path / refreshes.RECORDS,
        {"dataset": "shop", "refreshes": [{"when": WHEN, **each} for each in records]},
    )
    page = refreshes.note(tmp_path, last).read_text()
    kept = refreshes.read_records(tmp_path)["refreshes"]
    assert len(kept) == 50 and kept[-1] == last | {"when": kept[-1]["when"]}
    assert "<script" not in page and "fell &lt;&amp;&gt;" in page
    assert {*re.findall(r'(?:src|srcset)="([^:"]+:)', page)} == {"data:"}
    assert page.count("<figure>") == 2 and "0.8100 → 0.7900" in page
    assert "+1,234<small>7 removed</small>" in page and "Version <b>60</b>" in page
    assert "version 58" in page and "version 8<" not in page


WHEN = "2026-11-28T03:00:00+00:00"


def test_a_rollback_is_told_where_there_were_refreshes(tmp_path):
    files.write_sealed(
        tmp_path / "config.json", {"data": {"root": ".", "variant": "8"}}
    )
    for _ in range(3):
        with published(tmp_path).publish():
            pass
    act("rollback", workdir=tmp_path)
    assert not (tmp_path / refreshes.PAGE).exists()
    refreshes.note(tmp_path, {"version": 2, "outcome": "version 2"}, "shop")
    act("rollback", workdir=tmp_path)
    page = (tmp_path / refreshes.PAGE).read_text()
    assert "rolled back to version 1" in page and "Version <b>1</b> is served" in page
    path = tmp_path / refreshes.RECORDS
    path.write_text(path.read_text().replace("rolled", "called"))
    with pytest.raises(ValueError, match="remove it: it only tells"):
        refreshes.note(tmp_path, {"outcome": ""})
