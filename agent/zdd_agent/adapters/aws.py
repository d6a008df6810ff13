"""Builds the SDK's clients, lazily and once, in this one place; bounds each call through them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from zdd_agent.adapters.imds import InstanceMetadata
from zdd_agent.adapters.limit import Limit, too_late
from zdd_agent.errors import AgentError, Kind

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

# Seconds, for each of the SDK's tries. An API call answers within one; `Limit` bounds all of them together.
CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
# Tries of one call by the SDK itself, with its own back-off; the loop goes on after that.
ATTEMPTS = 3

_T = TypeVar("_T")


class Aws:
    """Builds the clients. Safe to use from any thread."""

    def __init__(self, metadata: InstanceMetadata, environ: Mapping[str, str]) -> None:
        self._metadata = metadata
        self._environ = environ
        self._lock = threading.Lock()
        self._elbv2: ElasticLoadBalancingv2Client | None = None
        self._ec2: EC2Client | None = None
        self._autoscaling: AutoScalingClient | None = None
        self._dynamodb: Any = None

    def elbv2(self) -> ElasticLoadBalancingv2Client:
        """The client of Elastic Load Balancing v2.

        Raises:
            AgentError: METADATA_UNAVAILABLE, when the Region cannot be found out.
            BotoCoreError: no credentials yet, or none at all (see `mapped`).
        """
        with self._lock:
            if self._elbv2 is None:
                session, region, config = self._parts()
                self._elbv2 = session.client("elbv2", region_name=region, config=config)
            return self._elbv2

    def ec2(self) -> EC2Client:
        """The client of Amazon EC2. Raises like `elbv2`."""
        with self._lock:
            if self._ec2 is None:
                session, region, config = self._parts()
                self._ec2 = session.client("ec2", region_name=region, config=config)
            return self._ec2

    def autoscaling(self) -> AutoScalingClient:
        """The client of Amazon EC2 Auto Scaling. Raises like `elbv2`."""
        with self._lock:
            if self._autoscaling is None:
                session, region, config = self._parts()
                self._autoscaling = session.client("autoscaling", region_name=region, config=config)
            return self._autoscaling

    def dynamodb(self) -> Any:
        """The client of Amazon DynamoDB. Raises like `elbv2`."""
        with self._lock:
            if self._dynamodb is None:
                session, region, config = self._parts()
                self._dynamodb = session.client("dynamodb", region_name=region, config=config)
            return self._dynamodb

    def _parts(self) -> tuple[boto3.session.Session, str, Config]:
        # 25 MB and half a second that the daemon at rest does without.
        import boto3  # noqa: PLC0415  see above
        from botocore.config import Config  # noqa: PLC0415  see above
        from botocore.exceptions import NoCredentialsError  # noqa: PLC0415  see above
        from botocore.session import Session  # noqa: PLC0415  see above

        from zdd_agent.adapters import credentials  # noqa: PLC0415  it imports the SDK

        session = Session()
        # botocore falls back to IMDSv1 unless told not to.
        session.set_config_variable("ec2_metadata_v1_disabled", True)
        credentials.use_role_of(self._metadata, session)
        session.register("before-send", _send_in_time)
        # AWS_REGION is what the other SDKs read; botocore itself knows AWS_DEFAULT_REGION only.
        given = self._environ.get("AWS_REGION") or session.get_config_variable("region")
        region = given or self._metadata.identity().region
        session.set_config_variable("region", region)  # for STS, too, which a profile may ask for a role's credentials
        # A client keeps for good what it was built with, and a role may still be attached later.
        if session.get_credentials() is None:
            raise NoCredentialsError
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            # `auto` would ask the metadata service, with a token, through any HTTP_PROXY.
            defaults_mode="legacy",  # type: ignore[arg-type]  # the stubs are wrong
        )
        return boto3.session.Session(botocore_session=session), region, config


class Service:
    """Makes the calls to one AWS service: each ends within the limit, and what it raises is an AgentError.

    Args:
        prefix: the IAM prefix of the service, such as `elasticloadbalancing`.
        limit: shared by all calls to the service.
    """

    def __init__(self, prefix: str, limit: Limit) -> None:
        self._prefix = prefix
        self._limit = limit

    def call(self, operation: str, ask: Callable[[], _T], *, changes: bool = False) -> _T:
        """What `ask` makes of the SDK's answers.

        Args:
            operation: the API operation, such as `DeregisterTargets`.
            ask: calls the SDK and reads its answer.
            changes: the operation changes something at AWS.

        Raises:
            AgentError: from `mapped`; AWS_UNAVAILABLE, transient, when there is no answer within the limit.
        """

        def within() -> _T:
            with self.mapped(operation):
                return ask()

        def failed(cause: str) -> AgentError:
            hint = "check the network, the route to the endpoint, and DNS"
            return AgentError(Kind.AWS_UNAVAILABLE, f"cannot call {operation}: {cause}", hint=hint, transient=True)

        return self._limit.run(within, failed, changes=changes)

    @contextmanager
    def mapped(self, operation: str) -> Iterator[None]:
        """Inside, what the SDK raises becomes an AgentError that names the operation."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  loaded with the client

        from zdd_agent.adapters import aws_errors  # noqa: PLC0415  it imports the SDK

        try:
            yield
        except (BotoCoreError, ClientError, *aws_errors.UNREADABLE) as error:
            raise aws_errors.mapped(error, self._prefix, operation) from error


def _send_in_time(**_request: object) -> None:
    # The SDK tries again by itself; a change that its caller has given up must not be sent then.
    if too_late():
        raise AgentError(Kind.AWS_UNAVAILABLE, "cannot call AWS: the caller has given up", transient=True)
