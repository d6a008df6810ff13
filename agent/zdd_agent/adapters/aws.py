"""The one place where SDK clients are built: lazily, once, with explicit Region, timeouts and retries."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from zdd_agent.ports import Metadata

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

# Seconds. An API call answers within one; more is a fault, and the loop tries again.
CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
# Tries of one call by the SDK itself, with its own back-off; the loop goes on after that.
ATTEMPTS = 3


class Aws:
    """Builds the clients. Safe to use from any thread."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._lock = threading.Lock()
        self._elbv2: ElasticLoadBalancingv2Client | None = None

    def elbv2(self) -> ElasticLoadBalancingv2Client:
        """The client of Elastic Load Balancing v2.

        Raises:
            AgentError: METADATA_UNAVAILABLE, when the Region cannot be learnt.
        """
        with self._lock:
            if self._elbv2 is None:
                self._elbv2 = self._build()
            return self._elbv2

    def _build(self) -> ElasticLoadBalancingv2Client:
        # 25 MB and half a second that the daemon at rest does without.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415
        from botocore.session import Session  # noqa: PLC0415

        session = Session()
        # botocore falls back to IMDSv1 unless told not to.
        session.set_config_variable("ec2_metadata_v1_disabled", True)
        region = session.get_config_variable("region") or self._metadata.identity().region
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        )
        return boto3.session.Session(botocore_session=session).client("elbv2", region_name=region, config=config)
