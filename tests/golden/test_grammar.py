"""Random JSON Schemas: whatever the masks let through is valid, says python-jsonschema.

hypothesis makes the schemas (hypothesis-jsonschema makes values of a schema, and does not run with today's hypothesis); tests/golden/grammar.c makes texts by choosing at random
among what the masks allow, with SmolLM2's real vocabulary, and holds each mask against asking for its tokens one by one.
LOAM_SCHEMAS says how many (300).
"""

import collections
import json
import os

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

HOW_MANY = int(os.environ.get("LOAM_SCHEMAS", "300"))
LEAST_HONOURED = 0.6  # of the random schemas; the others are refused by keyword, or nothing satisfies them


def walk(loam, model, cases, timeout=600):
    lines = "\n".join(json.dumps(c) for c in cases) + "\n"
    return [json.loads(line) for line in loam.helper("golden/grammar", model, stdin=lines, timeout=timeout).splitlines()]


NAMES = st.sampled_from(["a", "b", "name", "naïve \"key\"", "été", "x/y~z", ""])
SMALL, COUNT = st.integers(-1000, 1000), st.integers(0, 12)
BOUND = SMALL | st.floats(-100, 100, allow_nan=False) | st.decimals(-9, 9, places=2).map(float) | st.sampled_from([0, -1, 0.5, 10**15])
SCALAR = SMALL | st.text(max_size=6) | st.booleans() | st.none() | st.sampled_from([0.1, -2.5, 1e20])
PATTERNS = st.sampled_from(["^[a-z]+$", "^\\d{3}-\\d{4}$", "a|bc", "^(x|yy)*$", "^[^\"]{2,5}$", "\\S+@\\S+", "é.[\\n-~]", "^\\D\\W\\w*$"])
FORMATS = st.sampled_from(["date", "time", "date-time", "uuid", "email", "ipv4", "ipv6", "hostname", "uri", "duration"])
TYPES = ["null", "boolean", "string", "integer", "number", "object", "array"]


def just(must, **may):
    """Objects with all of must and some of may."""
    return st.fixed_dictionaries(must, optional=may)


def schemas(depth):
    """JSON Schemas, nested so deep."""
    kinds = [
        just({"type": st.sampled_from(TYPES)}),
        just({"type": st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True)}),
        just({"enum": st.lists(SCALAR, min_size=1, max_size=4)}),
        just({"const": SCALAR}),
        just({"type": st.just("string")}, minLength=COUNT, maxLength=COUNT),
        just({"type": st.just("string"), "pattern": PATTERNS}, minLength=COUNT, maxLength=COUNT),
        just({"type": st.just("string"), "format": FORMATS}, maxLength=st.integers(5, 60)),
        just({"type": st.sampled_from(["integer", "number"])}, minimum=BOUND, maximum=BOUND, exclusiveMinimum=BOUND, exclusiveMaximum=BOUND),
        just({"type": st.just("integer"), "multipleOf": st.integers(1, 30)}),
    ]
    if depth == 0:
        return st.one_of(kinds)
    inner = schemas(depth - 1)
    properties, required = st.dictionaries(NAMES, inner, max_size=4), st.lists(NAMES, max_size=3, unique=True)
    some = st.lists(inner, min_size=1, max_size=3)
    kinds += [
        just({"type": st.just("object"), "properties": properties}, required=required, minProperties=st.integers(0, 3)),
        just({"type": st.just("object")}, properties=properties, required=required, additionalProperties=inner | st.booleans(),
             minProperties=st.integers(0, 2), maxProperties=st.integers(2, 5)),
        just({"type": st.just("array"), "items": inner}, minItems=st.integers(0, 3), maxItems=st.integers(3, 9)),
        just({"type": st.just("array"), "prefixItems": some}, items=inner | st.booleans(), minItems=st.integers(0, 5), maxItems=COUNT),
        just({"anyOf": some}), just({"allOf": some}), just({"oneOf": some}),
        just({"properties": properties, "allOf": some}, type=st.just("object")),
        just({"properties": properties, "anyOf": some}, type=st.just("object"), required=required),
        just({"oneOf": some}, type=st.sampled_from(TYPES)),
    ]
    return st.one_of(kinds)


def random_schemas(n):
    found = []

    @seed(20)
    @settings(max_examples=n, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(schemas(2))
    def collect(schema):
        found.append(schema)

    collect()
    return list({json.dumps(s, sort_keys=True): s for s in found}.values())


def check(schema, text):
    """The reference's word on a text; numbers are read as any JSON reader reads them."""
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    validator.validate(json.loads(text))


@pytest.mark.heavy
def test_random_schemas(loam, smollm2):
    schemas = random_schemas(HOW_MANY)
    assert len(schemas) > HOW_MANY * 0.6
    made = walk(loam, smollm2, [{"kind": "json_schema", "source": s, "seed": i, "most": 60} for i, s in enumerate(schemas)])
    why, valid = collections.Counter(), 0
    for schema, got in zip(schemas, made, strict=True):
        if "error" in got:
            assert got["error"] == "no text at all can satisfy it" or '"/' in got["error"], got["error"]
            why[got["error"].rpartition('": ')[2][:60]] += 1
            continue
        assert not got["stuck"], (schema, got)
        if got["ended"]:
            check(schema, got["text"])
            valid += 1
        else:
            why["did not end"] += 1
    print(f"{len(schemas)} schemas, {valid} valid texts;", dict(why))
    assert why["did not end"] <= len(schemas) * 0.02
    assert valid >= len(schemas) * LEAST_HONOURED
