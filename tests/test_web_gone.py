"""A request of a visitor who is forgotten while its body comes is nobody else's."""

import json

import numpy as np
import pytest
from web_site import API, ok, problem, program

from fhn_jax.web.photos import Photo

OUTFIT = {"top": 1, "bottom": 2, "shoe": 3}
JSON = "application/json"
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="category"\r\n\r\ntop\r\n'
    b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\nJPEG\r\n--x--\r\n"
)


class Encoder:
    """Takes every photo."""

    def encode(self, data, category):
        return Photo(data, np.zeros(2, np.uint8), 1.0)


def new_visitor(app):
    return program(app, ok(program(app).post(f"{API}/visitors", json={}), 201)["token"])


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("feedback", {"items": OUTFIT, "liked": True}, JSON),
        ("compose", {"wardrobe": True, "include_seen": True}, JSON),
        ("compose", {"k": 1}, JSON),
        ("explain", {"items": OUTFIT}, JSON),
        ("wardrobe/photos", FORM, "multipart/form-data; boundary=x"),
    ],
)
def test_who_is_gone_when_the_body_has_come_is_unknown(
    app, path, body, kind, monkeypatch
):
    monkeypatch.setattr(app.state.service.wardrobe, "_encoder", Encoder())
    visitor, others = new_visitor(app), []

    def late():
        """The body, before which the visitor leaves and another one comes."""
        visitor_too = program(app, visitor.headers["authorization"].split()[1])
        assert visitor_too.delete(f"{API}/visitors/me").status_code == 204
        others.append(new_visitor(app))
        for category in OUTFIT:
            others[0].put(f"{API}/wardrobe/{category}/7")
        yield body if isinstance(body, bytes) else json.dumps(body).encode()

    answer = visitor.post(
        f"{API}/{path}", content=late(), headers={"content-type": kind}
    )
    assert others
    problem(answer, 401)
    everything = ok(others[0].get(f"{API}/visitors/me/everything"))
    assert everything["feedback"] == everything["photos"] == []
    assert len(everything["wardrobe"]) == 3
