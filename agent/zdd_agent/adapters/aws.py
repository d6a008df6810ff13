"""The one place where SDK clients are built: lazily, once, with explicit Region, timeouts and retries."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zdd_agent.ports import Metadata

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

# Seconds. An API call answers within one; more is a fault, and the loop tries again.
CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
# Tries of one call by the SDK itself, with its own back-off; the loop goes on after that.
ATTEMPTS = 3


class Aws:
    """Builds the clients. Safe to use from any thread."""

    def __init__(self, metadata: Metadata, environ: Mapping[str, str]) -> None:
        self._metadata = metadata
        self._environ = environ
        self._lock = threading.Lock()
        self._elbv2: ElasticLoadBalancingv2Client | None = None
        self._ec2: EC2Client | None = None

    def elbv2(self) -> ElasticLoadBalancingv2Client:
        """The client of Elastic Load Balancing v2.

        Raises:
            AgentError: METADATA_UNAVAILABLE, when the Region cannot be learnt.
            BotoCoreError: no credentials yet, or none to be had (see `mapped`).
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

    def _parts(self) -> tuple[boto3.session.Session, str, Config]:
        # 25 MB and half a second that the daemon at rest does without.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import NoCredentialsError  # noqa: PLC0415
        from botocore.session import Session  # noqa: PLC0415

        session = Session()
        # botocore falls back to IMDSv1 unless told not to.
        session.set_config_variable("ec2_metadata_v1_disabled", True)
        # A client keeps for good what it was built with, and a role may be attached yet.
        if session.get_credentials() is None:
            raise NoCredentialsError
        # AWS_REGION is what the other SDKs read; botocore itself knows AWS_DEFAULT_REGION only.
        given = self._environ.get("AWS_REGION") or session.get_config_variable("region")
        region = given or self._metadata.identity().region
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        )
        return boto3.session.Session(botocore_session=session), region, config


@contextmanager
def mapped(service: str, operation: str) -> Iterator[None]:
    """What the SDK raises inside becomes an AgentError.

    Args:
        service: the IAM prefix of the service, such as `elasticloadbalancing`.
        operation: the API operation, such as `DeregisterTargets`.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  loaded with the client

    from zdd_agent.adapters import aws_errors  # noqa: PLC0415  it imports the SDK

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise aws_errors.mapped(error, service, operation) from error
