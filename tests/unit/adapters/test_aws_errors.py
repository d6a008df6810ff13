"""What AWS and its SDK raise, as our tree."""

import pytest
from botocore import exceptions as sdk

from zdd_agent.adapters.aws_errors import mapped
from zdd_agent.errors import AgentError, Kind


def answered(code: str, status: int = 400, message: str = "AWS's words") -> AgentError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = sdk.ClientError(response, "DeregisterTargets")  # type: ignore[arg-type]  AWS sends more
    return mapped(error, "elasticloadbalancing", "DeregisterTargets")


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation"])
def test_access_denied_names_the_missing_action_and_is_not_tried_again(code: str) -> None:
    error = answered(code, 403)
    assert (error.kind, error.transient) == (Kind.AWS_DENIED, False)
    assert error.value == "elasticloadbalancing:DeregisterTargets"
    assert "does not allow elasticloadbalancing:DeregisterTargets" in error.message
    assert "AWS's words" in error.hint


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "RequestExpired"])
def test_expired_credentials_renew_themselves(code: str) -> None:
    error = answered(code, 403)
    assert (error.kind, error.transient) == (Kind.AWS_DENIED, True)


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"])
def test_unknown_credentials_are_not_tried_again(code: str) -> None:
    error = answered(code, 403)
    assert (error.kind, error.transient) == (Kind.AWS_DENIED, False)
    assert code in error.message


@pytest.mark.parametrize("code", ["Throttling", "ThrottlingException", "RequestLimitExceeded"])
def test_throttling_is_waited_out(code: str) -> None:
    error = answered(code)
    assert (error.kind, error.transient) == (Kind.AWS_UNAVAILABLE, True)
    assert "throttled" in error.message


@pytest.mark.parametrize(("code", "status"), [("InternalFailure", 500), ("HealthUnavailable", 500), ("", 503)])
def test_a_fault_of_aws_is_waited_out(code: str, status: int) -> None:
    error = answered(code, status)
    assert (error.kind, error.transient) == (Kind.AWS_UNAVAILABLE, True)


@pytest.mark.parametrize("code", ["", "Unknown", "SlowDownPlease"])
def test_429_is_waited_out_whatever_its_code(code: str) -> None:
    error = answered(code, 429)
    assert (error.kind, error.transient) == (Kind.AWS_UNAVAILABLE, True)
    assert "throttled" in error.message


def test_an_error_without_a_code_is_not_from_aws_and_waited_out() -> None:
    error = answered("", 404)
    assert (error.kind, error.transient) == (Kind.AWS_UNAVAILABLE, True)
    assert "what answered is not AWS" in error.message


@pytest.mark.parametrize("code", ["TargetGroupNotFound", "TargetGroupNotFoundException"])
def test_a_target_group_that_is_gone_names_the_setting(code: str) -> None:
    error = answered(code)
    assert (error.kind, error.transient) == (Kind.TARGET_GROUP_NOT_FOUND, False)
    assert "target_groups" in error.hint


@pytest.mark.parametrize("code", ["ValidationError", "InvalidTarget", "TooManyTargets"])
def test_any_other_answer_is_a_failure_with_the_words_of_aws(code: str) -> None:
    error = answered(code)
    assert (error.kind, error.value, error.transient) == (Kind.FAILED, code, False)
    assert "AWS's words" in error.message


@pytest.mark.parametrize(
    "error",
    [
        sdk.EndpointConnectionError(endpoint_url="https://x"),
        sdk.ConnectTimeoutError(endpoint_url="https://x"),
        sdk.ReadTimeoutError(endpoint_url="https://x"),
        sdk.ConnectionClosedError(endpoint_url="https://x"),
        sdk.SSLError(endpoint_url="https://x", error="certificate"),
        sdk.ProxyConnectionError(proxy_url="http://proxy"),
    ],
)
def test_a_network_that_fails_is_waited_out(error: Exception) -> None:
    said = mapped(error, "elasticloadbalancing", "DescribeTargetHealth")
    assert (said.kind, said.transient) == (Kind.AWS_UNAVAILABLE, True)
    assert said.message.startswith("cannot call DescribeTargetHealth: ")


@pytest.mark.parametrize(
    "error",
    [
        sdk.NoCredentialsError(),
        sdk.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        sdk.CredentialRetrievalError(provider="iam-role", error_msg="no"),
    ],
)
def test_no_credentials_point_at_the_instance_profile_and_may_come_yet(error: Exception) -> None:
    said = mapped(error, "elasticloadbalancing", "DescribeTargetHealth")
    assert (said.kind, said.transient) == (Kind.AWS_DENIED, True)
    assert "instance profile" in said.hint


def test_a_call_that_the_sdk_itself_refuses_is_a_failure() -> None:
    said = mapped(sdk.ParamValidationError(report="x"), "elasticloadbalancing", "RegisterTargets")
    assert (said.kind, said.transient) == (Kind.FAILED, False)


def test_a_message_is_one_line() -> None:
    assert "\n" not in mapped(sdk.ParamValidationError(report="a\nb"), "x", "Y").message
