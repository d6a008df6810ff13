"""The credentials of this instance's role, for the SDK.

The SDK's own reader of the metadata service obeys HTTP_PROXY and so sends the session token to the proxy. Ours never
uses one.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import CredentialRetrievalError

if TYPE_CHECKING:
    from botocore.session import Session

    from zdd_agent.adapters.imds import InstanceMetadata

_PATH = "iam/security-credentials/"
_PROVIDER = "iam-role"
# Seconds. EC2 renews credentials well before they end. Where it could not, AWS asks its SDKs to go on with the old ones
# and to ask again a few minutes later; the SDK asks when fewer than 900 are left.
_AT_LEAST_LEFT = timedelta(seconds=900 + 120)


def use_role_of(metadata: InstanceMetadata, session: Session) -> None:
    """Let the session take the role's credentials from our client; the sources before it keep their places."""
    provider = session.get_component("credential_provider").get_provider(_PROVIDER)
    # Our own provider in its place would not do: profiles with `credential_source = Ec2InstanceMetadata` hold this one.
    provider._role_fetcher = RoleCredentials(metadata)  # noqa: SLF001  see above


class RoleCredentials:
    """Stands in for botocore's InstanceMetadataFetcher."""

    def __init__(self, metadata: InstanceMetadata) -> None:
        self._metadata = metadata

    def retrieve_iam_role_credentials(self) -> dict[str, str]:
        """What botocore makes credentials of; empty when the instance has no role.

        Raises:
            AgentError: METADATA_UNAVAILABLE, transient.
            CredentialRetrievalError: the service's answer holds no credentials.
        """
        role = (self._metadata.get(_PATH) or "").strip()
        text = self._metadata.get(_PATH + role) if role else None
        if text is None:
            return {}
        try:
            said = json.loads(text)
            ends = datetime.fromisoformat(said["Expiration"])
            return {
                "role_name": role,
                "access_key": said["AccessKeyId"],
                "secret_key": said["SecretAccessKey"],
                "token": said["Token"],
                "expiry_time": max(ends, datetime.now(UTC) + _AT_LEAST_LEFT).isoformat(),
            }
        except (ValueError, KeyError, TypeError):
            raise CredentialRetrievalError(provider=_PROVIDER, error_msg=_refusal(text)) from None


def _refusal(text: str) -> str:
    """Why there are none, in the words of the service. Nothing else of the text: it may hold a key."""
    try:
        said = json.loads(text)
        return f"{said['Code']}: {said['Message']}"
    except (ValueError, KeyError, TypeError):
        return "the metadata service's answer holds no credentials"
