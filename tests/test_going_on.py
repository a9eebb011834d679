"""What goes on with a run after its data were updated, or a version was gone back to."""

import numpy as np
import pytest
import shops
from ml_collections import ConfigDict
from runs import act
from test_growth import (
    NEW,
    config_of,
    grown,
    place,  # noqa: F401
    refresh,
    trained,  # noqa: F401
    update,
)

from fhn_jax.codes import Codes
from fhn_jax.recommender.publishing import published
from fhn_jax.training.experiment import Experiment
from fhn_jax.training.fine_tune import restore_base
from fhn_jax.web import photos
from fhn_jax.web.photos import read_encoder

pytest.importorskip("duckdb")
pytestmark = pytest.mark.slow


def test_what_needs_the_network_alone_works_on_after_an_update(place, monkeypatch):  # noqa: F811
    config = config_of(place)
    old = np.asarray(Experiment(config, place / "run").best().model.user.embedding[...])
    update(place, items=[NEW, *shops.items()])
    grown(place)
    encoded = []

    def program(model, size, **_):
        encoded.append(np.asarray(model.user.embedding[...]))
        return b"of the network"

    monkeypatch.setattr("fhn_jax.training.export.export_encoder", program)
    act("export-encoder", config, place / "run")
    assert read_encoder(place / "run" / photos.FILE).program == b"of the network"
    assert np.array_equal(encoded[0], old)
    # New users of a cold start begin with the network of a base that has grown.
    values = config.to_dict() | {"cold_start": {"base": str(place / "run")}}
    rates = values["optimizer"]["rates"]
    values["optimizer"]["rates"] = {name: float(name == "user") for name in rates}
    model = restore_base(Experiment(ConfigDict(values), place / "other")).model
    assert model.user.embedding[...].shape == old.shape


def test_a_refresh_goes_on_from_the_network_that_was_gone_back_to(place):  # noqa: F811
    versions = published(place / "run")
    refresh(place, epochs=0)
    refresh(place, epochs=1, fall="0.9")
    shas = [
        Codes.load(versions.folder / n / "codes.safetensors").sha256() for n in "12"
    ]
    assert shas[0] != shas[1]
    act("rollback", config_of(place), place / "run")
    refresh(place, epochs=0)
    assert versions.current.name == "3"
    assert Codes.load(versions.current / "codes.safetensors").sha256() == shas[0]
    # What can be gone back to can be gone on from.
    act("rollback", config_of(place), place / "run")
    refresh(place, epochs=0)
    assert Codes.load(versions.current / "codes.safetensors").sha256() == shas[1]
