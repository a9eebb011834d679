"""Requests of any kind, drawn by schemathesis from the server's own description."""

import contextlib

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from scale import SCALE
from web_site import ORIGIN, program

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.specs.openapi.checks import (  # noqa: E402
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

API = "/api/v1"
SETTINGS = settings(
    max_examples=10 * SCALE,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def description(app):
    return schemathesis.openapi.from_asgi(
        f"{API}/openapi.json", app, headers={"host": ORIGIN.removeprefix("http://")}
    )


@pytest.fixture(scope="module")
def visitor(app):
    """Somebody whose state no request of others may change."""
    token = program(app).post(f"{API}/visitors", json={}).json()["token"]
    client = program(app, token)
    items = {"top": 1, "bottom": 2, "shoe": 3}
    client.post(f"{API}/feedback", json={"items": items, "liked": True})
    return client


@pytest.mark.slow
# Hypothesis sees Python's global source of random numbers move while it draws, and blames
# the strategy; it was beartype in a thread of the server, which checks one item of a list.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
def test_whatever_is_asked_the_answer_is_one_that_is_described(
    app, description, visitor, mode
):
    before = visitor.get(f"{API}/visitors/me").json()

    def check(case):
        token = program(app).post(f"{API}/visitors", json={}).json()["token"]
        # A schema cannot say which items there are, so what it admits may be refused.
        # And schemathesis takes our valid token for one that it made up.
        excluded = [positive_data_acceptance]
        for shown, known in ((token, [ignored_auth]), ("unknown", [])):
            headers = {"authorization": f"Bearer {shown}", "host": "localhost"}
            answer = case.call(headers=headers)
            assert answer.status_code < 500, answer.text
            if answer.status_code == 431:  # refused, which schemathesis does not know
                known = [*known, negative_data_rejection]
            case.validate_response(answer, excluded_checks=[*excluded, *known])

    operations = [result.ok() for result in description.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:
        strategy = operation.as_strategy(generation_mode=mode)
        # Of what takes nothing, no wrong request can be drawn.
        with contextlib.suppress(Unsatisfiable):
            SETTINGS(given(case=strategy)(check))()
    assert visitor.get(f"{API}/visitors/me").json() == before
