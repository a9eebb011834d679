"""The report page: what it shows, that it is safe and whole, and its errors."""

import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest
from PIL import Image

from fhn_jax.data.images import open_images
from fhn_jax.data.layout import read_catalogue
from fhn_jax.evaluation import evaluators, metrics
from fhn_jax.reporting import charts, page, report, training
from fhn_jax.reporting.scores import mean_roc
from tests.polyvore_u import write_polyvore_u
from tests.random_codes import codes_of, latents_of, names_of

VOID = {"meta", "img", "source", "link", "br", "rect"}


class Page(html.parser.HTMLParser):
    """Collects tags with their attributes, and checks that they are closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "tiny"
    return read_catalogue(write_polyvore_u(root), "8")


def evaluated(workdir, catalogue, **changes):
    """A workdir that was evaluated, its codes and latents."""
    codes = codes_of(catalogue, **changes)
    latents = latents_of(codes)
    codes.save(workdir / "codes.safetensors")
    latents.save(workdir / "latents.safetensors", codes)
    evaluators.run("all", workdir, catalogue, "test")
    return workdir, codes, latents


def log(workdir, steps=100, **values):
    with open(workdir / "metrics.jsonl", "w") as file:
        for step in range(steps):
            line = {"step": step, "epoch": step / 10, "train/loss": 1 / (step + 1)}
            file.write(json.dumps(line | values) + "\n")
            if step % 10 == 0:
                line = {"step": step, "epoch": step / 10, "val/auc_binary": 0.5}
                file.write(json.dumps(line) + "\n")


@pytest.fixture(scope="module")
def written(tmp_path_factory, catalogue):
    """A complete report, with pictures and training curves."""
    workdir, codes, latents = evaluated(tmp_path_factory.mktemp("run"), catalogue)
    log(workdir)
    images = open_images(catalogue.root)
    return report.write_report(workdir, catalogue, codes, latents, images)


@pytest.fixture
def no_charts(monkeypatch):
    """Charts take seconds; most tests are not about them."""
    monkeypatch.setattr(charts, "figure", lambda *_: "<figure></figure>")


@pytest.mark.slow
def test_the_report_is_one_page_with_its_pictures_beside_it(written):
    assert written.name == "index.html" and written.parent.name == "report"
    page = Page(written.read_text(encoding="utf-8"))
    folder = written.parent
    sources = {img["src"] for img in page.all("img")}
    sources |= {source["srcset"] for source in page.all("source")}
    for source in sources:
        with Image.open(folder / source) as picture:
            picture.verify()
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == sources | {"index.html"}
    assert not page.all("script") and not page.all("link")
    text = written.read_text(encoding="utf-8")
    assert "http" not in text and "url(" not in text


@pytest.mark.slow
def test_every_chart_has_a_light_and_a_dark_picture(written):
    names = {path.stem for path in written.parent.glob("*.png")}
    drawn = {name.removesuffix("-light") for name in names if "-light" in name}
    assert names == {f"{name}-{theme}" for name in drawn for theme in ("light", "dark")}
    assert {"roc-random", "roc-hard", "scores", "train-loss", "train-auc"} <= drawn
    assert {"bits-balance", "bits-correlation", "bits-weights"} <= drawn


def test_every_picture_says_what_it_shows(written):
    page = Page(written.read_text(encoding="utf-8"))
    for img in page.all("img"):
        assert img["alt"]
    assert any(img["alt"] == "Chart: Loss. Training loss, and validation loss on "
               "fixed negatives." for img in page.all("img"))  # fmt: skip
    assert any(re.fullmatch(r"top: top\d+\.jpg", img["alt"]) for img in page.all("img"))


def test_pictures_of_items_are_small_jpegs(written):
    pictures = list((written.parent / "items").iterdir())
    assert pictures
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.format == "JPEG"
            assert max(picture.size) <= page.THUMBNAIL_PX


def test_the_table_shows_the_results(written):
    text = written.read_text(encoding="utf-8")
    results = json.loads((written.parent.parent / "results.json").read_text())
    for block in (results["scores"], results["hard"]):
        for values in block.values():
            assert f"{values['auc']:.3f}<small>" in text
            assert f"<td>{values['fitb']:.3f}</td>" in text


def test_right_outfits_are_marked_by_more_than_colour(written, catalogue):
    page = Page(written.read_text(encoding="utf-8"))
    hits = [li for li in page.all("li") if li.get("class") == "hit"]
    assert hits
    text = "".join(page.texts)
    assert text.count("✓") >= len(hits)


def test_names_of_items_stand_in_for_pictures(tmp_path, catalogue, no_charts):
    workdir, codes, latents = evaluated(tmp_path, catalogue)
    path = report.write_report(workdir, catalogue, codes, latents, None)
    text = path.read_text(encoding="utf-8")
    assert "<img" not in text and re.search(r">top\d+\.jpg</span>", text)
    assert not (path.parent / "items").exists()


@pytest.mark.slow
def test_demo_data_cannot_be_missed(tmp_path, catalogue, no_charts):
    demo = dataclasses.replace(catalogue, dataset="demo")
    workdir, codes, _ = evaluated(tmp_path, demo)
    text = report.write_report(workdir, demo, codes, None, None).read_text()
    assert "Demo data</b>: drawn garments, simulated users" in text
    (tmp_path / "real").mkdir()
    workdir, codes, _ = evaluated(tmp_path / "real", catalogue)
    text = report.write_report(workdir, catalogue, codes, None, None).read_text()
    assert "drawn garments" not in text


def test_names_cannot_become_markup(tmp_path, catalogue, no_charts):
    bad = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    names = tuple(tuple(f"{bad}{i}" for i in range(len(n))) for n in catalogue.names)
    hostile = dataclasses.replace(catalogue, dataset=bad, names=names)
    workdir, codes, latents = evaluated(tmp_path, hostile, config_hash=bad)
    path = report.write_report(workdir, hostile, codes, latents, None)
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.all("script") and not page.all("img")
    assert any(bad in text for text in page.texts)


def test_hostile_names_do_not_leave_the_folder(tmp_path, catalogue, no_charts):
    class Images:
        """Gives any name the same picture."""

        path = catalogue.root
        verified = True
        data = open_images(catalogue.root).read([catalogue.names[0][0]])[0]

        def __len__(self):
            return 1

        def read(self, names):
            return [self.data for _ in names]

        def missing(self, names):
            return []

    names = tuple(
        tuple(f"../../../{c}{i}" for i in range(len(n)))
        for c, n in enumerate(catalogue.names)
    )
    hostile = dataclasses.replace(catalogue, names=names)
    workdir, codes, _ = evaluated(tmp_path, hostile)
    path = report.write_report(workdir, hostile, codes, None, Images())
    for file in (path.parent / "items").iterdir():
        assert re.fullmatch(r"\d{7}\.jpg", file.name)


def test_a_missing_second_top_is_shown_once(tmp_path, no_charts):
    slots = ("top", "top", "bottom", "shoe")
    catalogue = read_catalogue(write_polyvore_u(tmp_path / "two", slots=slots), "8")
    names = names_of(codes_of(catalogue))
    pictures = page.Pictures(tmp_path, catalogue, None, names)
    stack = Page(pictures.outfit(np.array([1, 1, 2, 3])))
    assert [a["title"] for a in stack.all("span")] == [
        "top: top001.jpg",
        "bottom: bottom002.jpg",
        "shoe: shoe003.jpg",
    ]
    assert len(Page(pictures.outfit(np.array([1, 4, 2, 3]))).all("span")) == 4
    (tmp_path / "run").mkdir()
    workdir, codes, latents = evaluated(tmp_path / "run", catalogue)
    Page(report.write_report(workdir, catalogue, codes, latents, None).read_text())


def test_a_ranking_gives_ties_to_the_wrong_outfit(catalogue):
    part = catalogue.splits["test"]
    scores = {
        "liked": np.zeros(len(part.positives), np.float32),
        "random": np.zeros(len(part.negatives["random"]), np.float32),
    }
    items, liked, _ = evaluators.ranked_outfits(
        3, part.positives, part.negatives["random"], *scores.values()
    )
    assert liked.tolist() == [False] * 6 + [True] * 2
    np.testing.assert_array_equal(
        items[-2:], part.positives.items[part.positives.users == 3]
    )


def test_area_below_the_mean_roc_is_the_auc(catalogue):
    part = catalogue.splits["test"]
    rng = np.random.default_rng(0)
    scores = {
        "liked": rng.integers(0, 5, len(part.positives)).astype(np.float32),
        "random": rng.integers(0, 5, len(part.negatives["random"])).astype(np.float32),
    }
    users = evaluators.scores_by_user(part, "random", *scores.values()).values()
    false, true = mean_roc(users)
    aucs = [metrics.auc(*user) for user in users]
    assert np.trapezoid(true, false) == pytest.approx(np.mean(aucs), abs=0.02)


def test_without_a_log_there_are_no_training_charts(tmp_path, catalogue, no_charts):
    workdir, codes, _ = evaluated(tmp_path, catalogue)
    text = report.write_report(workdir, catalogue, codes, None, None).read_text()
    assert "No metrics.jsonl" in text


def test_curves_leave_out_values_that_are_not_finite(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "epoch": 0.5, "lr": 0.1}\n'
        '{"step": 2, "epoch": 1.0, "lr": NaN}\n'
        '{"step": 3, "epoch": 1.5, "val/loss": 2}\n'
        '{"step": 4, "epoch": 2.0, "lr": 0.2}\n'
    )
    x, y, unit = training.series(training.read_log(path), "lr")
    assert (x.tolist(), y.tolist(), unit) == ([0.5, 2.0], [0.1, 0.2], "epoch")


def test_a_log_line_cut_off_by_a_crash_is_left_out_and_named(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "lr": 0.1}\n{"step": 2, "l')
    records = training.read_log(path)
    assert "metrics.jsonl, line 2 was cut off by a crash" in capsys.readouterr().err
    assert training.series(records, "lr")[2] == "step" and len(records) == 1


@pytest.mark.parametrize(
    "line",
    ["not json", "[1]", '{"step": 1, "lr": "0"}', '{"lr": 1}', '{"step": 0}', ""],
)
def test_a_broken_log_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match="metrics.jsonl, line 2: got .* JSON object"):
        training.read_log(path)
    path.write_text(f'{{"step": 1}}\n{line}\n')  # The last one is not cut off.
    with pytest.raises(ValueError, match="metrics.jsonl, line 2: got .* JSON object"):
        training.read_log(path)


def test_a_new_report_replaces_the_old_one_whole(tmp_path, catalogue, no_charts):
    workdir, codes, latents = evaluated(tmp_path, catalogue)
    (workdir / "report").mkdir()
    (workdir / "report" / "old.png").touch()
    report.write_report(workdir, catalogue, codes, latents, None)
    assert [p.name for p in (workdir / "report").iterdir()] == ["index.html"]
    assert not [p for p in workdir.iterdir() if p.name.startswith(".")]


def test_a_failed_report_leaves_the_old_one(tmp_path, catalogue, monkeypatch):
    workdir, codes, latents = evaluated(tmp_path, catalogue)
    (workdir / "report").mkdir()
    (workdir / "report" / "index.html").write_text("old")

    def fail(*_):
        raise RuntimeError("no more ink")

    monkeypatch.setattr(charts, "figure", fail)
    with pytest.raises(RuntimeError, match="no more ink"):
        report.write_report(workdir, catalogue, codes, latents, None)
    assert (workdir / "report" / "index.html").read_text() == "old"
    assert not [p for p in workdir.iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_codes_without_item_weights_or_variety_are_shown(tmp_path, catalogue):
    counts = [len(names) for names in catalogue.names]
    items = {"text": tuple(np.zeros((n, 2), np.uint8) for n in counts)}
    workdir, codes, _ = evaluated(
        tmp_path, catalogue, modalities=("text",), items=items, hash_types=0, alpha=0.5
    )
    path = report.write_report(workdir, catalogue, codes, None, None)
    text = path.read_text(encoding="utf-8")
    assert "α = 0.500" in text and "<td>16 of 16</td>" in text
    assert not (path.parent / "bits-weights-light.png").exists()


def test_an_evaluation_must_come_first(tmp_path, catalogue):
    codes = codes_of(catalogue)
    with pytest.raises(FileNotFoundError, match="results.json: no such file; run"):
        report.write_report(tmp_path, catalogue, codes, None, None)


def test_results_of_other_codes_are_rejected(tmp_path, catalogue):
    workdir, codes, _ = evaluated(tmp_path, catalogue)
    other = codes_of(catalogue, seed=1)
    with pytest.raises(ValueError, match=f"is of codes '{codes.sha256()}', expected"):
        report.write_report(workdir, catalogue, other, None, None)


def test_codes_of_another_data_set_are_rejected(tmp_path, catalogue):
    workdir, codes, _ = evaluated(tmp_path, catalogue)
    other = dataclasses.replace(catalogue, checksum="0" * 64)
    with pytest.raises(ValueError, match="the codes are of data set 'tiny'"):
        report.write_report(workdir, other, codes, None, None)
