"""The server answers as its description says, also to requests that nobody would write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from indelible import ANY, EventStore, NewEvent

from .conftest import Serve

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDLESS = "subscribe"
"""Its answer has no end: test_log.py has its tests."""
LATER = {"close_stream": 1, "archive_stream": 2, "reopen_stream": 3}
"""Operations that succeed in this order, after all others, on the stream of the examples."""
BOUNDED = settings(
    max_examples=25,
    stateful_step_count=8,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Described:
    """The description of a server, and the headers with a token that may do everything."""

    schema: Any
    headers: dict[str, str]

    def operations(self) -> Iterator[tuple[str, Any]]:
        found = [result.ok() for result in self.schema.get_all_operations()]
        named = {operation.definition.raw["operationId"]: operation for operation in found}
        for name in sorted(named, key=lambda name: LATER.get(name, 0)):
            if name != ENDLESS:
                yield name, named[name]

    def check(self, case: Any) -> Any:
        response = case.call(headers=self.headers)
        case.validate_response(response, checks=CHECKS)
        return response


@pytest.fixture
def described(serve: Serve, store: EventStore) -> Described:
    """The description of a server whose store has the stream of the examples."""
    event = NewEvent("OrderPlaced", {"total": 12}, tags=["order:17"])
    store.append("order-17", event, expected=ANY)
    token = store.create_token("test", can="read,append,consume,manage").text
    headers = {"Authorization": f"Bearer {token}"}
    address = f"{serve(requires_token=True)}/api/v1/openapi.json"
    schema = schemathesis.openapi.from_url(address, headers=headers)
    schema.config.generation.with_security_parameters = False
    return Described(schema, headers)


def test_each_operation_succeeds_with_its_examples(described: Described) -> None:
    for name, operation in described.operations():
        raw = operation.definition.raw
        body = raw.get("requestBody", {}).get("content", {}).get("application/json", {})
        case = operation.Case(
            path_parameters={
                each["name"]: each["example"] for each in raw["parameters"] if each["in"] == "path"
            },
            **({"body": body["example"], "media_type": "application/json"} if body else {}),
        )
        response = described.check(case)

        assert response.status_code < 300, (name, response.text)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_each_operation_answers_as_described(described: Described, mode: GenerationMode) -> None:
    for _, operation in described.operations():
        raw = operation.definition.raw
        if mode is GenerationMode.NEGATIVE and not (raw["parameters"] or "requestBody" in raw):
            continue  # no request for it is wrong

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            described.check(case)

        check()


def test_what_follows_an_answer_succeeds(described: Described) -> None:
    described.schema.config.generation.modes = [GenerationMode.POSITIVE]
    outcomes: list[tuple[str, int]] = []

    class Workflow(described.schema.exclude(operation_id=ENDLESS).as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": described.headers}

        def step(self, input: Any) -> Any:  # noqa: A002 - the name of the base
            output = super().step(input)
            if input.transition is not None:
                outcomes.append((input.case.operation.label, output.response.status_code))
            return output

        def validate_response(self, response: Any, case: Any, **options: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    Workflow.run(settings=BOUNDED)

    failed = [outcome for outcome in outcomes if outcome[1] >= 300]
    assert outcomes
    assert len(failed) <= len(outcomes) / 2, failed
