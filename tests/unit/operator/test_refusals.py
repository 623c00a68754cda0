"""What a refusal of the API server means for the module."""

from __future__ import annotations

import json

from twinhull_operator.apply_module import refusal
from twinhull_operator.kube import ApiError, read_error
from twinhull_operator.problem import InvalidModuleError


def problem(error: ApiError) -> tuple[str, str]:
    """Field and message of the only problem."""
    found = refusal(error)
    assert isinstance(found, InvalidModuleError)
    (only,) = found.problems
    return only.field, only.message


def invalid(field: str, message: str = "Required value") -> ApiError:
    """The API server's answer to an invalid object."""
    body = {
        "reason": "Invalid",
        "message": "...",
        "details": {"causes": [{"field": field, "message": message}]},
    }
    return read_error(422, json.dumps(body).encode())


def test_the_field_of_the_daemonset_is_the_field_of_the_module() -> None:
    field = "spec.template.spec.containers[0].volumeMounts[1].mountPath"
    assert problem(invalid(field)) == (field, "Required value")


def test_twinhulls_own_init_containers_are_not_counted() -> None:
    assert problem(invalid("spec.template.spec.initContainers[3].image"))[0] == (
        "spec.template.spec.initContainers[1].image"
    )


def test_a_refused_sidecar_is_not_the_templates_fault() -> None:
    field, message = problem(
        invalid("spec.template.spec.initContainers[1].securityContext.privileged", "Forbidden")
    )
    assert field == "metadata.namespace"
    assert "sidecar" in message


def test_an_unknown_field_of_the_template_is_named() -> None:
    text = "failed to create typed patch object (db/postgres; apps/v1, Kind=DaemonSet): .spec.template.spec.containers"
    error = ApiError(500, "", f'{text}[name="db"].imagee: field not declared in schema')
    assert problem(error)[0] == 'spec.template.spec.containers[name="db"].imagee'


def test_a_server_that_cannot_be_asked_is_no_fault_of_the_module() -> None:
    error = ApiError(0, "Unreachable", "timeout")
    assert refusal(error) is error
    forbidden = ApiError(403, "Forbidden", "no")
    assert refusal(forbidden) is forbidden


def test_an_answer_that_is_no_status_is_kept_as_text() -> None:
    assert read_error(502, b"<html>bad gateway</html>").message == "<html>bad gateway</html>"
