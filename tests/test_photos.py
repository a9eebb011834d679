"""A visitor's own photos: what is taken, how it is encoded, and who may see it."""

import asyncio
import dataclasses
import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest
from anyio import to_thread
from PIL import Image
from polyvore_u import write_polyvore_u
from runs import REPOSITORY, load, settings
from web_site import problem, program

from fhn_jax.cli.verify import main
from fhn_jax.codes import pack
from fhn_jax.data.pictures import decode
from fhn_jax.errors import UnavailableError, UserError
from fhn_jax.training import build
from fhn_jax.training.export import all_items, export_encoder, make_codes
from fhn_jax.web import app as server
from fhn_jax.web import photos, wardrobe
from fhn_jax.web.app import Settings, create_app
from fhn_jax.web.photos import PhotoEncoder, save_encoder

API = "/api/v1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of an untrained network, with its encoder: (settings, codes, images)."""
    folder = tmp_path_factory.mktemp("photos")
    root = write_polyvore_u(folder / "data", image_size=291, items=(6, 4, 4))
    config = settings(root, {"model.item_scale": True}, config="vse_t3")
    catalogue, inputs = load(config)
    model = build.make_model(config, catalogue, **inputs.dims)
    chunks = build.make_encoder(config, model, inputs).stream(
        model, all_items(catalogue), catalogue.offsets
    )
    codes, _ = make_codes(model, chunks, catalogue, beta=1.0, config_hash="c" * 12)
    size = config.data.image_size
    encoder = export_encoder(
        model, size, mean=tuple(config.data.mean), std=tuple(config.data.std)
    )
    codes.save(folder / "run" / "codes.safetensors")
    save_encoder(folder / "run" / photos.FILE, encoder, codes, size)
    site = Settings(workdir=str(folder / "run"), root=str(root), variant="8", rate=0.0)
    return site, codes, root / "images" / "291x291"


@pytest.fixture(scope="module")
def encoder(run):
    site, codes, _ = run
    encoder = PhotoEncoder(Path(site.workdir) / photos.FILE, codes)
    wait_for(encoder)
    yield encoder
    encoder.close()


@pytest.fixture(scope="module")
def app(run):
    app = create_app(run[0])
    app.state.service.prepare()
    wait_for(app.state.service.wardrobe._encoder)
    yield app
    app.state.service.close()


@pytest.fixture
def encoder_of_app(app):
    return app.state.service.wardrobe._encoder


@pytest.fixture
def visitor(app):
    return program(app, program(app).post(f"{API}/visitors", json={}).json()["token"])


def wait_for(encoder):
    """Until the process is up."""
    deadline = time.monotonic() + 120
    while not encoder.is_up():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def encoded(kind, size=(60, 40), mode="RGB", **options):
    colours = {"RGB": (200, 30, 90), "RGBA": (200, 30, 90, 128), "L": 90, "P": 3}
    image = Image.new(mode, size, colours.get(mode, 0))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def upload(client, data, category="top", **fields):
    return client.post(
        f"{API}/wardrobe/photos",
        data={"category": category} | fields,
        files={"photo": ("../../x.jpg", data, "image/jpeg")},
    )


# --- the encoder ------------------------------------------------------------------


def test_the_photo_of_an_item_has_the_code_of_the_item(run, encoder):
    _, codes, images = run
    for category, item in ((0, 0), (1, 3), (2, 7)):
        data = (images / codes.names[category][item]).read_bytes()
        photo = encoder.encode(data, category)
        assert photo.code.tolist() == codes.items["visual"][category][item].tolist()
        scale = codes.item_scales["visual"][category][item]
        assert photo.scale == pytest.approx(float(scale), rel=1e-3)


def test_no_damage_of_an_encoder_goes_unnoticed(run, tmp_path):
    site, codes, _ = run
    data = (Path(site.workdir) / photos.FILE).read_bytes()
    path = tmp_path / photos.FILE
    path.write_bytes(data)
    main([str(path)])
    places = [*range(0, 400, 20), *range(400, len(data), len(data) // 40), -1]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        for use in (lambda: PhotoEncoder(path, codes), lambda: main([str(path)])):
            with pytest.raises(UserError, match=photos.FILE):
                use()


def test_a_photo_stands_for_all_modalities(run):
    _, codes, _ = run
    code = pack(np.where(np.arange(codes.bits) % 3, 1, -1))
    item = photos.Photo(b"", code, 0.25).item(codes)
    assert item.codes.tolist() == [code.tolist()] * 2
    assert item.scales.tolist() == [0.25] * 2


def test_an_odd_photo_is_read_as_an_item_of_the_catalogue_is(run, encoder):
    function, view = photos.load_program(Path(run[0].workdir) / photos.FILE)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    for data in (
        encoded("PNG", (60, 20), "RGBA"),
        encoded("JPEG", (60, 20), exif=exif),
        encoded("PNG", mode="L"),
    ):
        photo = encoder.encode(data, 0)
        signs, _ = function(view(decode(data, ""))[None])
        assert photo.code.tolist() == pack(np.asarray(signs)[0]).tolist()
        with Image.open(io.BytesIO(photo.picture)) as picture:
            assert picture.size == (291, 291)


def test_what_a_camera_wrote_into_a_photo_is_not_kept(encoder):
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    photo = encoder.encode(encoded("JPEG", exif=exif), 0)
    assert b"where I live" not in photo.picture
    with Image.open(io.BytesIO(photo.picture)) as picture:
        assert picture.size == (291, 291) and not picture.getexif()


def moving():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


BAD = [
    (b"", "cannot be decoded"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be decoded"),
    (b"GIF89a" + bytes(50), "cannot be decoded"),
    (encoded("GIF"), "cannot be decoded"),
    (encoded("TIFF"), "cannot be decoded"),
    (encoded("JPEG")[:300], "cannot be decoded"),
    (encoded("PNG", (5001, 5000)), "expected at most 25 megapixels"),
    (moving(), "moving WEBP"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("data", "text"), BAD, ids=range(len(BAD)))
def test_what_is_no_photo_is_refused_and_changes_nothing(visitor, data, text):
    upload(visitor, encoded("PNG"), "shoe")
    assert text in problem(upload(visitor, data), 422)
    assert len(visitor.get(f"{API}/wardrobe").json()["items"]) == 1


def scans(count, side=40):
    """A small JPEG of so many scans."""
    data = encoded("JPEG", (side, side), progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


def test_a_progressive_photo_of_many_scans_is_refused_before_it_is_decoded(visitor):
    assert upload(visitor, scans(200)).status_code == 201
    text = problem(upload(visitor, scans(200, 2000)), 422)
    assert "2000x2000 JPEG of 200 scans; expected at most 75" in text


@pytest.mark.slow
def test_a_process_that_was_killed_is_replaced(app, visitor, encoder_of_app):
    client = program(app)
    for _ in range(2):
        process = encoder_of_app._process
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        answer = upload(visitor, encoded("PNG"))
        assert "encoder of photos is starting" in problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
        assert "encoder of photos" in problem(client.get("/ready"), 503)
        wait_for(encoder_of_app)
        assert upload(visitor, encoded("PNG")).status_code == 201
    assert client.get("/ready").status_code == 200


def test_photos_that_wait_keep_nobody_else_from_being_answered(app, monkeypatch):
    """As many uploads as threads, all of which wait, and then a visitor."""
    waiting, go = [], threading.Event()

    def wait(visitor, category, title, photo):
        waiting.append(visitor)
        go.wait(60)
        raise UnavailableError("enough")

    monkeypatch.setattr(app.state.service.wardrobe, "add_photo", wait)

    async def ask():
        to_thread.current_default_thread_limiter().total_tokens = server._THREADS
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://127.0.0.1"
        ) as client:

            async def send():
                made = await client.post(f"{API}/visitors", json={})
                token = made.json()["token"]
                client.cookies.clear()
                answer = await client.post(
                    f"{API}/wardrobe/photos",
                    data={"category": "top"},
                    files={"photo": ("x.jpg", b"x", "image/jpeg")},
                    headers={"authorization": f"Bearer {token}"},
                )
                return answer.status_code

            uploads = [asyncio.create_task(send()) for _ in range(server._THREADS)]
            while len(waiting) < server._THREADS:
                await asyncio.sleep(0.01)
            answer = await asyncio.wait_for(client.get(f"{API}/catalogue"), 30)
            go.set()
            return answer.status_code, await asyncio.gather(*uploads)

    status, of_uploads = asyncio.run(ask())
    assert status == 200 and set(of_uploads) == {503}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("death", "error", "text"),
    [
        (signal.SIGSEGV, ValueError, "its decoder failed"),
        (signal.SIGXCPU, ValueError, "takes too long"),
        (signal.SIGKILL, UnavailableError, "stopped; try again"),
    ],
)
def test_a_photo_is_blamed_for_what_it_did_alone(encoder, death, error, text):
    with ThreadPoolExecutor(1) as visitors:
        os.kill(encoder._process.pid, signal.SIGSTOP)
        task = visitors.submit(encoder.encode, encoded("PNG"), 0)
        while encoder._places._value == photos._MOST_WAITING:
            pass
        os.kill(encoder._process.pid, death)
        os.kill(encoder._process.pid, signal.SIGCONT)
        with pytest.raises(error, match=text):
            task.result()
    wait_for(encoder)
    assert encoder.encode(encoded("PNG"), 0).scale > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [pickle.dumps((b"", b"", 1)), b"", b"\0\xff", b"\1", b"\1" + b"\xff" * 100],
)
def test_what_the_process_says_is_not_unpickled(encoder, answer):
    """A process that hostile bytes took over says anything."""
    wait_for(encoder)
    mine, its = multiprocessing.Pipe()
    its.send_bytes(answer)
    old, encoder._pipe = encoder._pipe, mine
    with pytest.raises(ValueError, match="its decoder failed"):
        encoder.encode(encoded("PNG"), 0)
    old.close()
    wait_for(encoder)
    assert encoder.encode(encoded("PNG"), 0).scale > 0


@pytest.mark.slow
def test_a_photo_has_a_limit_of_processor_time():
    program = "from fhn_jax.web import photos\nphotos._limit_cpu(0)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY)
    assert done.returncode == -signal.SIGXCPU


@pytest.mark.slow
def test_a_photo_that_takes_too_long_is_given_up(encoder, monkeypatch):
    monkeypatch.setattr(photos, "_SECONDS", 0)
    with pytest.raises(ValueError, match="takes too long"):
        encoder.encode(encoded("PNG", (4500, 4500)), 0)
    monkeypatch.undo()
    wait_for(encoder)
    assert encoder.encode(encoded("PNG"), 0).scale > 0


def test_photos_that_come_at_once_take_turns_and_a_few_wait(encoder, monkeypatch):
    good, bad = encoded("PNG"), b"no photo"
    with ThreadPoolExecutor(6) as visitors:
        tasks = [visitors.submit(encoder.encode, d, 0) for d in (good, bad) * 3]
    codes = {bytes(task.result().code) for task in tasks[::2]}
    assert len(codes) == 1
    refused = [task.exception() for task in tasks[1::2]]
    assert all(isinstance(error, ValueError) for error in refused)
    assert all("decoder failed" not in str(error) for error in refused)
    monkeypatch.setattr(photos, "_SECONDS", 0)
    with encoder._turn, pytest.raises(UnavailableError, match="photos take long"):
        encoder.encode(good, 0)
    monkeypatch.setattr(encoder, "_places", threading.BoundedSemaphore(1))
    with encoder._places, pytest.raises(UnavailableError, match="too many photos"):
        encoder.encode(good, 0)


def test_encoders_of_other_runs_and_other_files_are_refused(run, tmp_path):
    site, codes, _ = run
    path = Path(site.workdir) / photos.FILE
    other = dataclasses.replace(codes, config_hash="d" * 12)
    with pytest.raises(ValueError, match="belongs to the run cccccccccccc, the codes"):
        PhotoEncoder(path, other)
    (tmp_path / "broken").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="expected a fhn_jax.encoder .*export-encoder"):
        PhotoEncoder(tmp_path / "broken", codes)
    with pytest.raises(ValueError, match="format is 'fhn_jax.codes'"):
        PhotoEncoder(Path(site.workdir) / "codes.safetensors", codes)


def test_a_network_without_images_has_no_encoder(tmp_path):
    root = write_polyvore_u(tmp_path / "data", image_size=None)
    config = settings(root)
    catalogue, inputs = load(config)
    model = build.make_model(config, catalogue, **inputs.dims)
    with pytest.raises(ValueError, match="encodes no images"):
        export_encoder(model, 32, mean=(0.5,) * 3, std=(0.2,) * 3)


# --- the wardrobe -----------------------------------------------------------------


def test_a_photo_is_composed_with_and_seen_by_its_visitor_alone(app, run, visitor):
    _, codes, images = run
    data = (images / codes.names[0][2]).read_bytes()
    card = upload(visitor, data, title=" <b>My\n jack\0et\x07 ").json()
    assert card["title"] == "<b>My jacket" and card["category"] == "top"
    number = card["item"][1:]
    found = visitor.post(
        f"{API}/compose", json={"fixed": {"top": card["item"]}, "k": 5}
    )
    outfits = found.json()["outfits"]
    assert len(outfits) == 5
    worn = card | {"slot": "top"}
    assert all(outfit["items"][0] == worn for outfit in outfits)
    wardrobe = visitor.get(f"{API}/wardrobe").json()
    assert wardrobe["photos"] and wardrobe["items"] == [card]
    picture = visitor.get(card["image"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.headers["cache-control"] == "no-store"
    token = program(app).post(f"{API}/visitors", json={}).json()["token"]
    other = program(app, token)
    assert other.get(f"{API}/wardrobe").json()["items"] == []
    problem(other.get(card["image"]), 404)
    problem(program(app).get(card["image"]), 401)
    request = {"fixed": {"top": card["item"]}}
    text = problem(other.post(f"{API}/compose", json=request), 404)
    assert f"top {card['item']} is not in your wardrobe" in text
    problem(other.delete(f"{API}/wardrobe/photos/{number}"), 404)
    assert visitor.delete(f"{API}/wardrobe/photos/{number}").status_code == 204
    problem(visitor.get(card["image"]), 404)


def test_a_wardrobe_of_photos_and_items_is_combined_exactly(app, run, visitor):
    _, codes, images = run
    # Photos of known items, with a text part that is not theirs.
    cards = {}
    for category, item in (("top", 1), ("top", 2), ("shoe", 3)):
        number = codes.categories.index(category)
        data = (images / codes.names[number][item]).read_bytes()
        cards[category, item] = upload(visitor, data, category).json()["item"]
    visitor.put(f"{API}/wardrobe/top/4")
    visitor.put(f"{API}/wardrobe/bottom/5")
    visitor.put(f"{API}/wardrobe/bottom/6")
    request = {"wardrobe": True, "k": 24}
    outfits = visitor.post(f"{API}/compose", json=request).json()["outfits"]
    made = {tuple(str(i["item"]) for i in o["items"]) for o in outfits}
    tops = {cards["top", 1], cards["top", 2], "4"}
    expected = {(t, b, cards["shoe", 3]) for t in tops for b in ("5", "6")}
    assert made == expected
    scores = [outfit["score"] for outfit in outfits]
    assert scores == sorted(scores, reverse=True)
    # As if the items of the photos had the visual code for their text too.
    items = {}
    scales = {}
    for modality in codes.modalities:
        items[modality] = tuple(map(np.copy, codes.items[modality]))
        scales[modality] = tuple(map(np.copy, codes.item_scales[modality]))
    for category, item in cards:
        number = codes.categories.index(category)
        items["text"][number][item] = items["visual"][number][item]
        scales["text"][number][item] = scales["visual"][number][item]
    from fhn_jax.retrieval.items import ItemTables

    as_if = dataclasses.replace(codes, items=items, item_scales=scales)
    tables = ItemTables.from_codes(as_if)
    back = {name: item for (_, item), name in cards.items()}
    latents = app.state.service.recommender.start(None).astype(np.float64)
    for outfit in outfits:
        ids = np.array([[back.get(i["item"], i["item"]) for i in outfit["items"]]])
        weights = tables.user_vectors(latents)
        units = tables.compatibilities(ids)
        for slot in range(3):
            units = units + tables.affinities_of(slot, ids[:, slot], weights)[0]
        # The scale of a photo is not rounded to 16 bits.
        assert outfit["score"] == pytest.approx(tables.to_scores(units)[0], abs=5e-3)


def test_diversity_goes_with_a_fixed_photo_and_not_with_several(run, visitor):
    _, codes, images = run
    jacket, _ = (
        upload(visitor, (images / codes.names[0][item]).read_bytes()).json()["item"]
        for item in (1, 2)
    )
    around = {"fixed": {"top": jacket}, "k": 8}
    best = visitor.post(f"{API}/compose", json=around).json()
    found = visitor.post(
        f"{API}/compose", json=around | {"at_most": {"item": 2}}
    ).json()
    assert found["greedy"] is True and best["greedy"] is False
    assert found["outfits"][0] == best["outfits"][0]
    assert len(found["outfits"]) == 8
    assert all(outfit["items"][0]["item"] == jacket for outfit in found["outfits"])
    worn = Counter(
        (i["category"], i["item"]) for o in found["outfits"] for i in o["items"][1:]
    )
    assert max(worn.values()) == 2
    visitor.put(f"{API}/wardrobe/bottom/0")
    visitor.put(f"{API}/wardrobe/shoe/0")
    request = {"wardrobe": True, "k": 8, "at_most": {"item": 2}}
    text = problem(visitor.post(f"{API}/compose", json=request), 422)
    assert "at_most cannot be combined with photos to choose from" in text


def test_photos_of_unknown_kinds_or_too_many_are_refused(visitor, monkeypatch):
    assert "category 'hat'" in problem(upload(visitor, encoded("PNG"), "hat"), 404)
    answer = visitor.post(f"{API}/wardrobe/photos", data={"category": "top"})
    problem(answer, 422)
    monkeypatch.setattr(wardrobe, "MOST_PHOTOS", 1)
    assert upload(visitor, encoded("WEBP")).status_code == 201
    assert "holds 1 photos and" in problem(upload(visitor, encoded("PNG")), 409)


def test_a_photo_of_too_many_bytes_is_refused(visitor):
    data = encoded("PNG") + bytes(11 * 2**20)
    assert "too many bytes" in problem(upload(visitor, data), 413)
    assert visitor.get(f"{API}/wardrobe").json()["items"] == []


def test_without_an_encoder_photos_are_off(run, tmp_path):
    site, codes, _ = run
    codes.save(tmp_path / "codes.safetensors")
    app = create_app(dataclasses.replace(site, workdir=str(tmp_path)))
    token = program(app).post(f"{API}/visitors", json={}).json()["token"]
    client = program(app, token)
    assert client.get(f"{API}/wardrobe").json()["photos"] is False
    assert "there is no encoder" in problem(upload(client, encoded("PNG")), 404)
