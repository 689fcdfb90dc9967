"""The published description of the API is what the server does."""

import json
import re
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("limits", reason="needs rlsp_tf[serve]")
pytest.importorskip("uvicorn", reason="needs rlsp_tf[serve]")

from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from helpers import served
from helpers.served import BEGIN, LIMITS, Client

ODD = st.text(st.characters(codec="utf-8"), max_size=40)
BODIES = st.one_of(st.just(b""), st.just(bytes(3 * 16 * 16)), st.binary(max_size=2000))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with served.serving(tmp_path_factory.mktemp("served"), LIMITS) as server:
        yield Client(server.port)


@pytest.fixture(scope="module")
def description(client):
    return json.loads(client.ask("GET", "/openapi.json").content)


def test_the_description_is_valid(description):
    validate(description)


def test_every_option_of_a_route_is_described(client, description):
    """A path answers the methods that are described for it, and no others."""
    methods = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}
    for path, operations in description["paths"].items():
        known = {method.upper() for method in operations}
        for method in methods - known - {"HEAD"}:
            answer = client.ask(method, re.sub(r"{\w+}", "0", path))
            assert answer.status == 405
            assert {*answer.headers["Allow"].split(", ")} - {"HEAD"} == known


def check(description, operation, answer):
    """Whether an answer is one of those that are described."""
    assert str(answer.status) in operation["responses"], (
        operation["operationId"],
        answer.status,
        answer.content,
    )
    assert answer.status != 500
    content = operation["responses"][str(answer.status)].get("content", {})
    if not content:
        assert not answer.content
        return
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in content
    if kind == "application/json":
        schema = content[kind]["schema"] | {"components": description["components"]}
        OAS31Validator(schema).validate(json.loads(answer.content))
    if answer.status in (429, 503):
        assert answer.headers["Retry-After"]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_answer_is_a_described_one(client, description, data):
    paths = description["paths"]
    path = data.draw(st.sampled_from(sorted(paths)))
    method = data.draw(st.sampled_from(sorted(paths[path])))
    operation = paths[path][method]
    session = json.loads(client.ask("POST", BEGIN).content).get("session", "none")
    job = json.loads(client.ask("POST", "/jobs", b"video").content).get("job", "none")
    values = {
        "session": st.one_of(st.just(session), ODD),
        "job": st.one_of(st.just(job), ODD),
        "index": st.one_of(st.integers(-1, 3).map(str), st.integers().map(str), ODD),
        "width": st.one_of(st.just("16"), st.integers().map(str), ODD),
        "height": st.one_of(st.just("16"), st.integers().map(str), ODD),
        "model": st.one_of(st.just("small"), ODD),
        "container": st.one_of(st.sampled_from(["mp4", "mkv"]), ODD),
    }
    query = {}
    full = path
    for parameter in operation["parameters"]:
        name = parameter["name"]
        if parameter["in"] == "path":
            # Nothing, "." and ".." are other paths; so is what has a slash in it.
            value = data.draw(values[name].filter(lambda text: text.strip(".") and "/" not in text))
            full = full.replace(f"{{{name}}}", quote(value, safe=""))
        elif data.draw(st.booleans()):
            query[name] = data.draw(values[name])
    headers, body = {}, b""
    if "requestBody" in operation:
        kinds = [
            "image/png",
            "application/octet-stream",
            "video/raw",
            "video/raw; matrix=x",
            "text/plain",
            "",
        ]
        headers = {"Content-Type": data.draw(st.sampled_from(kinds))}
        body = data.draw(BODIES)
    answer = client.ask(method.upper(), f"{full}?{urlencode(query)}", body, headers)
    check(description, operation, answer)
    assert len(answer.headers["X-Request-Id"]) == 16
    for leftover in (f"/sessions/{session}", f"/jobs/{job}"):
        client.ask("DELETE", leftover)
