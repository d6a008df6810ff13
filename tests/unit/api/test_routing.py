"""Which route a request asks for, and what a wrong path or method is told."""

import pytest

from served import Served, error, said


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/drian", "did you mean /v1/drain?"),
        ("/status", "did you mean /v1/status?"),
        ("/v1/status/", "did you mean /v1/status?"),
        ("/", "see GET /v1/openapi.json"),
        ("//[", "see GET /v1/openapi.json"),
        ("/v1/operations/", "did you mean /v1/operations/ID?"),
        ("/v1/operations/a/b", "did you mean /v1/operations/ID?"),
        ("/v1/../v1/status", "did you mean /v1/status?"),
    ],
)
def test_an_unknown_path_is_a_404_that_names_the_nearest(served: Served, path: str, hint: str) -> None:
    answer = served.ask("GET", path)
    assert error(answer) == (404, "not_found")
    assert said(answer)["error"]["hint"] == hint


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/drain", "POST"),
        ("POST", "/v1/status", "GET"),
        ("DELETE", "/v1/operations/4f", "GET"),
        ("HEAD", "/v1/status", "GET"),
        ("A" * 500, "/v1/status", "GET"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_one(served: Served, method: str, path: str, allow: str) -> None:
    answer = served.ask(method, path)
    assert error(answer) == (405, "method_not_allowed")
    assert dict(answer.headers) == {"allow": allow}
    assert len(answer.body) < 300
