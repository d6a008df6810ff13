"""What AWS and its SDK raise, as our error tree.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from zdd_agent.errors import AgentError, Kind

# What the SDK raises, besides its own errors, on an answer that AWS cannot have sent: a proxy's page, say.
UNREADABLE = (ResponseParserError, KeyError, AttributeError)

_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_BAD_KEYS = frozenset(
    {
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "AuthFailure",
        "IncompleteSignature",
    }
)
_THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "ReplicatedWriteConflictException",
        "TransactionConflictException",
    }
)


def mapped(error: Exception, service: str, operation: str) -> AgentError:
    """The error of the tree for an exception of the SDK.

    Args:
        error: what botocore raised.
        service: the IAM prefix of the service, such as `elasticloadbalancing`.
        operation: the API operation, such as `DeregisterTargets`.
    """
    if isinstance(error, sdk.ClientError):
        return _answered(error, service, operation)
    cannot = f"cannot call {operation}"
    if isinstance(error, UNREADABLE):
        return _not_from_aws(cannot, f"{type(error).__name__}: {_line(error)}")
    if isinstance(error, sdk.NoCredentialsError | sdk.CredentialRetrievalError | sdk.PartialCredentialsError):
        why = f" ({_line(error)})" if isinstance(error, sdk.CredentialRetrievalError) else ""
        return AgentError(
            Kind.AWS_DENIED,
            f"{cannot}: no credentials{why}",
            hint="attach an instance profile whose role allows it",
            value=f"{service}:{operation}",
            transient=True,  # the metadata service may be down for a moment
        )
    if isinstance(error, sdk.NoRegionError | sdk.EndpointProviderError | sdk.ParamValidationError):
        return AgentError(Kind.FAILED, f"{cannot}: {_line(error)}")
    return AgentError(
        Kind.AWS_UNAVAILABLE,
        f"{cannot}: {_line(error)}",
        hint="check the network, the route to the endpoint, and DNS",
        transient=True,
    )


def _answered(error: sdk.ClientError, service: str, operation: str) -> AgentError:
    code = error.response.get("Error", {}).get("Code", "")
    said = error.response.get("Error", {}).get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    cannot = f"cannot call {operation}"
    action = f"{service}:{operation}"
    if code in _DENIED:
        return AgentError(
            Kind.AWS_DENIED,
            f"{cannot}: this instance's role does not allow {action}",
            hint=f"allow {action} in the role's policy; AWS said: {said}",
            value=action,
        )
    if code in _EXPIRED:
        return AgentError(
            Kind.AWS_DENIED,
            f"{cannot}: the credentials have expired",
            hint="check this host's clock; the role's credentials renew themselves",
            value=action,
            transient=True,
        )
    if code in _BAD_KEYS:
        return AgentError(
            Kind.AWS_DENIED,
            f"{cannot}: AWS does not know these credentials ({code})",
            hint="check the instance profile, and that no other AWS_* variables are set for zdd-agent",
            value=action,
        )
    if code in ("TargetGroupNotFound", "TargetGroupNotFoundException"):
        return AgentError(
            Kind.TARGET_GROUP_NOT_FOUND,
            f"{cannot}: {said or 'the target group does not exist'}",
            hint="check `target_groups` in the settings",
        )
    if code in _THROTTLED or status == 429 or status >= 500:
        cause = "throttled" if code in _THROTTLED or status == 429 else f"AWS answered {status}"
        return AgentError(Kind.AWS_UNAVAILABLE, f"{cannot}: {cause} ({code})", transient=True)
    if code in ("", "Unknown"):  # AWS names a code in every error
        return _not_from_aws(cannot, f"an answer {status} without a code")
    return AgentError(Kind.FAILED, f"{cannot}: {code}: {said}", value=code)


def _not_from_aws(cannot: str, cause: str) -> AgentError:
    return AgentError(
        Kind.AWS_UNAVAILABLE,
        f"{cannot}: what answered is not AWS ({cause})",
        hint="check the route to the endpoint, and any proxy on it",
        transient=True,
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
