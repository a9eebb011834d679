"""The grammar of conditions on items."""

import random

import pytest

from fhn_jax.errors import InputError
from fhn_jax.retrieval.where import Comparison, Where
from fhn_jax.web import schemas
from fhn_jax.web.facets import facets

PARTS = (*"'\"{},=<>! \\\n:", "\u00a0", "''", '""', " in {", "not ", "ü", "a")


def random_text(rng, shortest=0):
    return "".join(rng.choices(PARTS, k=rng.randint(shortest, 8)))


def test_every_value_can_be_written():
    rng = random.Random(0)

    def written(value):
        quote = rng.choice("\"'")
        return quote + value.replace(quote, 2 * quote) + quote

    for _ in range(3000):
        values = tuple(random_text(rng) for _ in range(rng.randint(1, 4)))
        read = Comparison.parse(f"brand not in {{{', '.join(map(written, values))}}}")
        assert (read.name, read.operator, read.values) == ("brand", "!=", values)
        read = Comparison.parse("brand=" + written(values[0]))
        assert (read.name, read.operator, read.values) == ("brand", "=", values[:1])


@pytest.mark.slow
def test_every_readable_name_can_be_asked_for():
    rng, counts = random.Random(0), {True: 0, False: 0}
    for _ in range(3000):
        name = random_text(rng, shortest=1)
        known = Where.reads(name)
        counts[known] += 1
        if known:
            for rest in ("<=8", ">=8", '="<"', ' in {"<", "="}'):
                assert Comparison.parse(name + rest).name == name
                assert Comparison.parse(f"shoe:{name}{rest}").name == f"shoe:{name}"
        for sign in "<>=!{}":
            assert not Where.reads(name + sign + "x")
    assert min(counts.values()) > 100


def test_what_the_grammar_cannot_say_is_not_offered():
    names = ("price", "in stock", "size=EU", "a<b", "is not", " x")
    number = {"kind": "number", "values": None, "counts": None, "least": 1, "most": 9}
    catalogue = schemas.Catalogue.model_construct(
        attributes={name: schemas.Attribute(**number) for name in names}
    )
    assert [facet.name for facet in facets(catalogue)] == ["price", "in stock"]


@pytest.mark.parametrize(
    "text",
    [
        "a{}",
        "a{}{{",
        "not{}{{",
        "a in{}x",
        "a in {{b{}'",
        "a in {{{}'}}",
        "a in {{'{}",
        "a in {{'b'{}'c'}}",
        "{}<{}",
    ],
)
def test_runs_of_spaces_are_read_once(text):
    # Were each looked at from each of its places, this would take hours.
    with pytest.raises(InputError, match="is no condition on items"):
        Comparison.parse(text.format(*2 * [" " * 300_000]) + "=")
    wide = Comparison.parse(
        "a{0}not{0}in{0}{{{0}b{0},{0}'c'{0}}}".format(" " * 300_000)
    )
    assert (wide.name, wide.operator, wide.values) == ("a", "!=", ("b", "c"))
