"""The published description of the API is what the server does."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("limits", reason="needs rlsp_tf[serve]")
pytest.importorskip("uvicorn", reason="needs rlsp_tf[serve]")
pytest.importorskip("schemathesis", reason="needs rlsp_tf[dev]")

import schemathesis
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from helpers import served
from helpers.served import LIMITS, Client, wait_until

MANY = replace(LIMITS, sessions=10_000, videos=10_000, jobs=10_000, client_share=1)
# A description does not have the names that a server has given, nor its limits; and any bytes can be a body.
EXCLUDED = [positive_data_acceptance, negative_data_rejection]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with served.serving(tmp_path_factory.mktemp("served"), MANY) as server:
        yield Client(server.port, "127.0.0.1")


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


@pytest.mark.slow
def test_every_answer_is_a_described_one(client, description):
    """To requests that are as described and to some that are not, and every route does what it is for."""
    url = f"http://127.0.0.1:{client.port}"
    done = json.loads(client.ask("POST", "/jobs", b"video").content)["job"]
    wait_until(lambda: client.ask("GET", f"/jobs/{done}/result").status == 200)
    succeeded = set()

    def check(case, known):
        if known:
            names = {"session": client.begin().rpartition("/")[2], "index": "0", "job": done}
            if case.method == "DELETE":
                names["job"] = json.loads(client.ask("POST", "/jobs", b"video").content)["job"]
            case.path_parameters |= {name: names[name] for name in case.path_parameters}
        answer = case.call(base_url=url)
        case.validate_response(answer, excluded_checks=EXCLUDED)
        assert len(answer.headers["x-request-id"][0]) == 16
        if answer.status_code < 300:
            succeeded.add(case.operation.label)

    operations = [each.ok() for each in schemathesis.openapi.from_dict(description).get_all_operations()]
    for operation in operations:
        cases = st.one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)
        ask = given(case=cases, known=st.booleans())(check)
        settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))(ask)()
    assert succeeded == {operation.label for operation in operations}
