"""The instance metadata service, version 2 only.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from zdd_agent.adapters.limit import Limit, too_late
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import Notice, NoticeKind
from zdd_agent.model.aws import Identity

if TYPE_CHECKING:
    import requests

_T = TypeVar("_T")

IPV4_ENDPOINT = "http://169.254.169.254"
IPV6_ENDPOINT = "http://[fd00:ec2::254]"
TOKEN_TTL_SECONDS = 3600
# Seconds before its end at which a token is renewed, so that none runs out on the way.
TOKEN_MARGIN_SECONDS = 300
# Seconds for a connection and for each piece of an answer: the service is on the host itself.
TIMEOUT_SECONDS = 2.0
# Seconds for which the addresses are believed. They change while the instance runs, and each look takes two requests
# and two more for each interface.
ADDRESS_SECONDS = 5.0
# Tries and pauses (seconds) for 5xx, throttling and silence; the service throttles each instance.
PAUSES_SECONDS = (0.2, 0.8, 2.0)
_HINT = "check that the instance metadata service is on and not blocked by a firewall"


def endpoint(environ: Mapping[str, str]) -> str:
    """The address that the SDK's own variables name.

    Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html

    Raises:
        AgentError: CONFIGURATION when AWS_EC2_METADATA_DISABLED is true or the mode is unknown.
    """
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise AgentError(
            Kind.CONFIGURATION,
            "cannot learn who this host is: AWS_EC2_METADATA_DISABLED is true",
            hint="unset it for zdd-agent",
            value="AWS_EC2_METADATA_DISABLED",
        )
    if given := environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        return given.rstrip("/")
    mode = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv4").lower()
    if mode not in ("ipv4", "ipv6"):
        raise AgentError(
            Kind.CONFIGURATION,
            f"cannot use AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE={mode!r}",
            hint="IPv4 or IPv6",
            value="AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
        )
    return IPV6_ENDPOINT if mode == "ipv6" else IPV4_ENDPOINT


class InstanceMetadata:
    """Who this host is. Safe to use from any thread; each call ends within the limit.

    Args:
        environ: where the endpoint is looked up, at the first call.
        monotonic: seconds that never jump, for the age of the token and of the addresses.
        pause: sleeps between tries.
        limit: bounds each call.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        limit: Limit | None = None,
    ) -> None:
        self._environ = environ
        self._monotonic = monotonic
        self._pause = pause
        self._limit = limit or Limit()
        self._lock = threading.Lock()
        self._session: requests.Session | None = None
        self._token: str | None = None
        self._token_ends = 0.0
        self._mac = ""
        # The identity, and when its addresses were read.
        self._known: tuple[Identity, float] | None = None

    def identity(self, max_age: float = ADDRESS_SECONDS) -> Identity:
        """Who this host is, with addresses that were read at most `max_age` seconds ago.

        Everything else is asked for once, since it does not change while the instance runs.

        Raises:
            AgentError: METADATA_UNAVAILABLE, transient; CONFIGURATION from `endpoint`.
        """
        known = self._known
        if known is not None and self._monotonic() - known[1] <= max_age:
            return known[0]
        return self._within_limit(lambda: self._ask_identity(max_age))

    def lifecycle_state(self) -> str | None:
        """Where the Auto Scaling group of this instance wants it to be; None for one that is in no group.

        It is the target state, not the current one:
        https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html

        Raises:
            AgentError: METADATA_UNAVAILABLE, transient.
        """
        text = self.get("autoscaling/target-lifecycle-state")
        return None if text is None else text.strip()

    def notices(self, kinds: Collection[NoticeKind]) -> tuple[Notice, ...]:
        """What EC2 announces to this instance, of these kinds; each kind takes one request.

        Raises:
            AgentError: METADATA_UNAVAILABLE, transient.
        """
        from zdd_agent.adapters import imds_notices  # noqa: PLC0415  most hosts have no use for it

        found = ((kind, self.get(imds_notices.PATHS[kind])) for kind in kinds)
        return tuple(one for kind, text in found if text is not None for one in imds_notices.read(kind, text))

    def role(self) -> str:
        """The ARN of this host's instance profile.

        Raises:
            AgentError: AWS_DENIED when it has none; METADATA_UNAVAILABLE, transient.
        """
        text = self.get("iam/info")
        try:
            return str(json.loads(text or "")["InstanceProfileArn"])
        except (ValueError, KeyError, TypeError):
            raise AgentError(
                Kind.AWS_DENIED, "this instance has no role", hint="attach an instance profile that allows the actions"
            ) from None

    def get(self, path: str) -> str | None:
        """The text under /latest/meta-data/, None where there is nothing (404).

        Raises:
            AgentError: METADATA_UNAVAILABLE, transient.
        """
        return self._within_limit(lambda: self._get(path))

    def _within_limit(self, ask: Callable[[], _T]) -> _T:
        def alone() -> _T:
            with self._lock:
                return ask()

        return self._limit.run(alone, _unavailable)

    def _ask_identity(self, max_age: float) -> Identity:
        now = self._monotonic()
        if self._known is None:
            self._mac = self._must("mac")
            who = Identity(
                instance_id=self._must("instance-id"),
                region=self._must("placement/region"),
                zone=self._must("placement/availability-zone"),
                vpc_id=self._must(f"network/interfaces/macs/{self._mac}/vpc-id"),
                addresses=(),
            )
        else:
            who, asked_at = self._known
            if now - asked_at <= max_age:  # another thread has just asked
                return who
        who = replace(who, addresses=self._addresses())
        self._known = who, now
        return who

    def _addresses(self) -> tuple[str, ...]:
        """The addresses of every interface: IPv4 before IPv6, the primary interface's first."""
        listed = (self._get("network/interfaces/macs/") or "").split()
        macs = dict.fromkeys((self._mac, *(name.rstrip("/") for name in listed)))
        addresses = (self._get("local-ipv4") or "").split()
        for family in ("local-ipv4s", "ipv6s"):
            for mac in macs:
                addresses += (self._get(f"network/interfaces/macs/{mac}/{family}") or "").split()
        if not addresses:
            raise _unavailable("it has no address")
        return tuple(dict.fromkeys(addresses))

    def _must(self, path: str) -> str:
        text = self._get(path)
        if not text:
            raise _unavailable(f"it has no {path}")
        return text.strip()

    def _get(self, path: str) -> str | None:
        refused = False
        while True:
            headers = {"X-aws-ec2-metadata-token": self._fresh_token()}
            answer = self._call("GET", f"/latest/meta-data/{path}", headers)
            if answer.status_code == 200:
                return answer.text
            if answer.status_code == 404:
                return None
            if answer.status_code != 401 or refused:
                raise _unavailable(f"{path} answered {answer.status_code}")
            # The token was revoked or ran out early. Ask for one new token and no more: a loop here would be throttled.
            refused = True
            self._token = None

    def _fresh_token(self) -> str:
        now = self._monotonic()
        if self._token is None or now >= self._token_ends:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_SECONDS)}
            answer = self._call("PUT", "/latest/api/token", headers)
            if answer.status_code != 200:
                raise _unavailable(f"the token request answered {answer.status_code}")
            self._token = answer.text
            self._token_ends = now + TOKEN_TTL_SECONDS - TOKEN_MARGIN_SECONDS
        return self._token

    def _call(self, method: str, path: str, headers: dict[str, str]) -> requests.Response:
        import requests  # noqa: PLC0415  6 MB that the daemon at rest does without

        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False  # a proxy must never see the token
        url = endpoint(self._environ) + path
        cause = "no answer in time"
        for pause in (*PAUSES_SECONDS, None):
            if too_late():  # nobody waits for the answer any more
                break
            try:
                answer = self._session.request(
                    method, url, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
                )
            except requests.RequestException as error:
                cause = type(error).__name__
            else:
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                cause = f"it answered {answer.status_code}"
            if pause is not None:
                self._pause(pause)
        raise _unavailable(cause)


def _unavailable(cause: str) -> AgentError:
    return AgentError(
        Kind.METADATA_UNAVAILABLE,
        f"cannot ask the instance metadata service: {cause}",
        hint=_HINT,
        transient=True,
    )
