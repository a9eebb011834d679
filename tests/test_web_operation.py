"""What those who run a server need: settings, paths, probes, files, the description."""

import gc
import gzip
import weakref

import pytest
from web_site import API, browser, ok, problem, program

from fhn_jax.errors import InputError
from fhn_jax.main import COMMANDS
from fhn_jax.web import app as server
from fhn_jax.web.app import create_app, serve

# --- what lasts -------------------------------------------------------------------


class _Ring:
    """Refers to itself, so that only a collection removes it."""

    def __init__(self):
        self.itself = self


@pytest.mark.slow
def test_garbage_collections_pass_over_what_a_server_keeps(app):
    """Else each stops all requests for a tenth of a second; what a version leaves goes."""
    ring = _Ring()
    left = weakref.ref(ring)
    try:
        app.state.service.prepare()
        assert gc.get_freeze_count() > 10_000
        del ring
        gc.collect()
        assert left() is not None
        app.state.service.prepare()
        assert left() is None
    finally:
        gc.unfreeze()


# --- settings ---------------------------------------------------------------------


def parsed(environment, *flags):
    return vars(COMMANDS["serve"].arguments(environment).parse_args(flags))


def test_every_setting_can_be_a_variable():
    variables = {
        "FHN_JAX_WORKDIR": "runs/shop",
        "FHN_JAX_PORT": "81",
        "FHN_JAX_DATABASE_URL": "postgresql+psycopg://shop:secret@db/shop",
        "FHN_JAX_KNOWN_USERS": "no",
        "FHN_JAX_ACCESS_LOG": "TRUE",
        "FHN_JAX_INDEX": "",
    }
    found = parsed(variables)
    assert str(found["workdir"]) == "runs/shop" and found["port"] == 81
    assert found["database_url"].endswith("secret@db/shop")
    assert (found["known_users"], found["access_log"]) == (False, True)
    assert found["index"] == "" and found["workers"] == 1
    # A flag wins.
    found = parsed(variables, "--port=82", "--known-users", "--workdir=x")
    assert (found["port"], found["known_users"]) == (82, True)
    assert str(found["workdir"]) == "x"


def test_a_secret_in_a_variable_is_not_shown_in_the_help():
    url = "postgresql+psycopg://shop:secret@db/shop"
    text = COMMANDS["serve"].arguments({"FHN_JAX_DATABASE_URL": url}).format_help()
    assert "secret" not in text and "from FHN_JAX_DATABASE_URL" in text


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ({"FHN_JAX_PORT": "many"}, "FHN_JAX_PORT=many: expected a whole number"),
        ({"FHN_JAX_KNOWN_USERS": "2"}, "FHN_JAX_KNOWN_USERS=2: expected yes or no"),
    ],
)
def test_a_variable_of_another_type_is_named(variable, text):
    with pytest.raises(InputError, match=text):
        parsed(variable)


def test_variables_concern_the_server_alone(monkeypatch):
    monkeypatch.setenv("FHN_JAX_K", "3")
    found = vars(COMMANDS["search"].arguments().parse_args([]))
    assert found["k"] == 10


@pytest.mark.parametrize(
    "path", ["outfits", "/", "/outfits/", "/a b", "//evil.example"]
)
def test_a_root_path_is_a_path(settings, path):
    changed = server.dataclasses.replace(settings, root_path=path)
    with pytest.raises(InputError, match="expected a path such as /outfits"):
        serve(changed, host="127.0.0.1", port=0)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_a_rate_is_none_or_some(settings, rate):
    changed = server.dataclasses.replace(settings, rate=rate)
    with pytest.raises(InputError, match="--rate=.*expected requests a second, or 0"):
        serve(changed, host="127.0.0.1", port=0)


@pytest.mark.parametrize(
    "name",
    ["shop.example:8000", "https://shop.example", "shop.example/", "*.shop.example"]
    + ["[::1]", "shop example", ".shop.example"],
)
def test_an_allowed_host_is_a_name_that_a_request_can_be_for(name):
    with pytest.raises(InputError, match="--allowed-hosts: no request is for"):
        server.split_hosts(f"a.example,{name}", "127.0.0.1")


@pytest.mark.parametrize("name", ["*", "my_host", "10.0.0.7", "2001:db8::1", "xn--a-b"])
def test_names_addresses_and_any_are_allowed_hosts(name):
    assert name in server.split_hosts(name, "127.0.0.1")


@pytest.mark.parametrize("path", ["/api", "/api/v2", "/docs", "/static/x"])
def test_a_root_path_does_not_begin_like_the_paths_of_the_server(settings, path):
    changed = server.dataclasses.replace(settings, root_path=path)
    with pytest.raises(InputError, match="paths of the server itself begin like that"):
        serve(changed, host="127.0.0.1", port=0)


def test_all_paths_of_the_server_are_known(app):
    every = [*app.routes, *server.routes.router.routes, *server.page.router.routes]
    paths = [route.path for route in every if hasattr(route, "path")]
    own = {f"/{path.split('/')[1]}" for path in paths} - {"/"}
    assert own == set(server.OWN_PATHS)


# --- below a path -----------------------------------------------------------------


@pytest.mark.parametrize("proxy_removes_it", [True, False])
def test_a_server_below_a_path_names_its_addresses_there(settings, proxy_removes_it):
    app = create_app(server.dataclasses.replace(settings, root_path="/outfits"))
    client = browser(app)
    at = "" if proxy_removes_it else "/outfits"
    text = client.get(f"{at}/").text
    assert 'data-api="/outfits/api/v1"' in text and 'href="/outfits/"' in text
    assert 'src="/outfits/static/page.js' in text and '"/static' not in text
    answer = client.post(f"{at}{API}/visitors", json={})
    assert "path=/outfits;" in answer.headers["set-cookie"].lower()
    token = answer.json()["token"]
    outfits = program(app, token).get(f"{at}{API}/recommendations?explore=0").json()
    item = outfits["outfits"][0]["items"][0]
    assert item["image"].startswith(f"/outfits{API}/items/")
    about = client.get(f"{at}{API}/openapi.json").json()
    assert about["servers"] == [{"url": "/outfits"}]
    bare = client.get("/outfits?k=1", follow_redirects=False)
    assert bare.status_code == 307
    assert bare.headers["location"] == "http://localhost/outfits/?k=1"
    app.state.service.close()


# --- files ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["page.js", "page.css", "swagger-ui-bundle.js"])
def test_files_are_compressed_and_sent_once(app, name):
    client = program(app)
    plain = client.get(f"/static/{name}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", f"/static/{name}") as small:
        data = b"".join(small.iter_raw())
    assert small.headers["content-encoding"] == "gzip"
    assert small.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(data) == plain.content and len(data) < len(plain.content) / 2
    assert small.headers["etag"] != plain.headers["etag"]
    refusing = {"accept-encoding": "br, gzip;q=0"}
    assert (
        client.get(f"/static/{name}", headers=refusing).headers["etag"]
        == (plain.headers["etag"])
    )
    again = client.get(
        f"/static/{name}", headers={"if-none-match": small.headers["etag"]}
    )
    assert again.status_code == 304 and again.content == b""
    for known in ("*", f'W/"other", {small.headers["etag"]}'):
        again = client.get(f"/static/{name}", headers={"if-none-match": known})
        assert again.status_code == 304, known
    head = client.head(f"/static/{name}")
    assert head.status_code == 200 and head.content == b""
    assert int(head.headers["content-length"]) == len(data)


# --- the description --------------------------------------------------------------


def test_the_description_is_shown_by_files_of_this_server(app):
    client = program(app)
    text = client.get("/docs").text
    assert f'data-url="{API}/openapi.json"' in text
    assert "http" not in text.replace('http-equiv="', "")
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "docs.js"):
        assert f'"/static/{name}' in text
        assert client.get(f"/static/{name}").status_code == 200
    assert "<script>" not in text and "style=" not in text
    problem(client.get("/static/redoc.standalone.js"), 404)


def test_operations_have_names_that_clients_can_rely_on(app):
    paths = ok(program(app).get(f"{API}/openapi.json"))["paths"]
    names = [about["operationId"] for path in paths.values() for about in path.values()]
    assert sorted(names) == sorted(set(names))
    assert {
        *("catalogue", "new_visitor", "me", "forget", "history", "recommendations"),
        *("feedback", "undo", "reset", "compose", "explain", "items", "similar"),
        *("image", "thumbnail", "wardrobe", "add_photo", "picture", "remove_photo"),
        *("add_item", "remove_item", "health", "ready"),
    } <= set(names)


def test_the_description_says_who_may_do_what(app):
    about = ok(program(app).get(f"{API}/openapi.json"))
    schemes = about["components"]["securitySchemes"]
    assert schemes["token"]["scheme"] == "bearer"
    assert (schemes["cookie"]["in"], schemes["cookie"]["name"]) == ("cookie", "visitor")
    either = [{"token": []}, {"cookie": []}]
    for path, methods in about["paths"].items():
        for method, operation in methods.items():
            is_mine = "401" in operation["responses"]
            assert operation.get("security", []) == (either if is_mine else []), (
                method,
                path,
            )


def test_the_description_lists_what_any_request_may_be_answered(app):
    paths = ok(program(app).get(f"{API}/openapi.json"))["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            expected = {"400", "413", "429", "431", "503"}
            expected |= set() if operation.get("tags") == ["operation"] else {"421"}
            expected |= {"408"} if "requestBody" in operation else set()
            found = set(operation["responses"])
            assert expected <= found, (method, path)
            assert ("408" in found) == ("requestBody" in operation), (method, path)


def test_the_examples_of_the_description_are_taken(app):
    about = ok(program(app).get(f"{API}/openapi.json"))
    token = program(app).post(f"{API}/visitors", json={}).json()["token"]
    visitor = program(app, token)
    visitor.put(f"{API}/wardrobe/top/1")
    tried = 0
    for path, methods in about["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {})
        schema = body.get("application/json", {}).get("schema", {}).get("$ref", "")
        if not schema:
            continue
        examples = about["components"]["schemas"][schema.rpartition("/")[2]]["examples"]
        for example in examples:
            visitor.cookies.clear()  # a program has none
            assert visitor.post(path, json=example).status_code in (200, 201), example
            tried += 1
    assert tried >= 6
