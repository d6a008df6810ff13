"""IMDSv2: one host's service, over HTTP, with a clock that only the test moves."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from botocore.utils import InstanceMetadataFetcher

from lab.conftest import free_prefix
from zdd_lab.aws.instance_identity import Identity
from zdd_lab.hosts.imds import Imds
from zdd_lab.model.faults import Fault, FaultKind, FaultTable
from zdd_lab.processes.serving import serve

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
MAC = "02:00:00:00:00:01"


class Metadata:
    """A running service and a client of it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.now = 1_800_000_000.0
        self.url, self.session = url, session
        self.faults = FaultTable()
        self.identity = Identity(
            "h1", "i-1", "127.1.2.11", "us-east-1a", MAC, "vpc-1", "subnet-1", "127.1.2.0/24", "ASIAH1", self.now
        )
        self.imds = Imds("h1", lambda: self.now, self.faults, lambda: self.identity.leaves(self.now))

    async def call(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, self.url + path, headers=named) as reply:
            return reply.status, await reply.text()

    async def token(self, ttl: str = "60") -> str:
        status, token = await self.call("PUT", "/latest/api/token", **{TTL: ttl})
        assert status == 200
        return token

    async def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        return await self.call("GET", f"/latest/meta-data/{path}", **{TOKEN: token or await self.token()})


@asynccontextmanager
async def metadata() -> AsyncIterator[Metadata]:
    address = f"{free_prefix()}.11"
    async with aiohttp.ClientSession() as session:
        found = Metadata(f"http://{address}:1338", session)
        server = await serve(found.imds.application(), address, 1338)
        try:
            yield found
        finally:
            await server.cleanup()


def with_metadata(promise: Callable[[Metadata], Awaitable[None]]) -> None:
    async def run() -> None:
        async with metadata() as found:
            await promise(found)

    asyncio.run(run())


@pytest.mark.parametrize("ttl", ["1", "21600"])
def test_a_token_is_given_for_a_ttl_of_1_to_21600_seconds(ttl: str):
    async def promise(found: Metadata) -> None:
        assert (await found.get("instance-id", await found.token(ttl))) == (200, "i-1")

    with_metadata(promise)


@pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "ten", "1.5"])
def test_a_put_with_another_ttl_is_400(ttl: str):
    async def promise(found: Metadata) -> None:
        assert (await found.call("PUT", "/latest/api/token", **{TTL: ttl}))[0] == 400

    with_metadata(promise)


def test_a_put_without_a_ttl_is_400():
    async def promise(found: Metadata) -> None:
        assert (await found.call("PUT", "/latest/api/token"))[0] == 400

    with_metadata(promise)


def test_a_put_with_x_forwarded_for_is_rejected():
    async def promise(found: Metadata) -> None:
        headers = {TTL: "60", "X-Forwarded-For": "10.0.0.1"}
        assert (await found.call("PUT", "/latest/api/token", **headers))[0] == 403

    with_metadata(promise)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_token_comes_by_put_only(method: str):
    async def promise(found: Metadata) -> None:
        assert (await found.call(method, "/latest/api/token", **{TTL: "60"}))[0] == 405

    with_metadata(promise)


def test_a_get_without_a_token_is_v1_refused_with_401_and_counted():
    async def promise(found: Metadata) -> None:
        for _ in range(3):
            assert (await found.call("GET", "/latest/meta-data/instance-id"))[0] == 401
        assert found.imds.v1_requests == 3

    with_metadata(promise)


def test_a_bad_token_is_401_and_no_v1_request():
    async def promise(found: Metadata) -> None:
        assert (await found.get("instance-id", "made-up"))[0] == 401
        assert found.imds.v1_requests == 0

    with_metadata(promise)


def test_a_token_ends_with_its_ttl_and_a_new_one_works():
    async def promise(found: Metadata) -> None:
        token = await found.token("60")
        found.now += 59.5
        assert (await found.get("instance-id", token))[0] == 200
        found.now += 0.5
        assert (await found.get("instance-id", token))[0] == 401
        assert (await found.get("instance-id"))[0] == 200

    with_metadata(promise)


def test_a_token_may_be_dropped_before_its_time():
    async def promise(found: Metadata) -> None:
        token = await found.token()
        found.imds.forget_tokens()
        assert (await found.get("instance-id", token))[0] == 401

    with_metadata(promise)


def test_everything_is_403_while_metadata_is_off():
    async def promise(found: Metadata) -> None:
        token = await found.token()
        found.imds.off = True
        assert (await found.get("instance-id", token))[0] == 403
        assert (await found.call("PUT", "/latest/api/token", **{TTL: "60"}))[0] == 403

    with_metadata(promise)


@pytest.mark.parametrize("path", ["nonsense", "ipv6", "spot/instance-action", "autoscaling/target-lifecycle-state"])
def test_an_absent_path_is_404(path: str):
    async def promise(found: Metadata) -> None:
        assert (await found.get(path))[0] == 404

    with_metadata(promise)


def test_throttling_answers_503_for_a_while():
    async def promise(found: Metadata) -> None:
        token = await found.token()
        found.imds.throttled = 2
        statuses = [(await found.get("instance-id", token))[0] for _ in range(3)]
        assert statuses == [503, 503, 200]

    with_metadata(promise)


def test_imds_down_resets_the_connection_of_that_host_alone():
    async def promise(found: Metadata) -> None:
        found.faults.add(Fault(FaultKind.IMDS_DOWN, client="h2"))
        token = await found.token()
        found.faults.add(Fault(FaultKind.IMDS_DOWN, client="h1"))
        with pytest.raises(aiohttp.ClientError):
            await found.get("instance-id", token)
        found.faults.clear()
        assert (await found.get("instance-id", token))[0] == 200

    with_metadata(promise)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("instance-id", "i-1"),
        ("placement/region", "us-east-1"),
        ("placement/availability-zone", "us-east-1a"),
        ("local-ipv4", "127.1.2.11"),
        ("mac", MAC),
        (f"network/interfaces/macs/{MAC}/vpc-id", "vpc-1"),
        ("network/interfaces/macs/", f"{MAC}/"),
        ("services/partition", "aws"),
        ("services/domain", "amazonaws.com"),
        ("iam/security-credentials/", "zdd-host"),
        ("placement", "availability-zone\navailability-zone-id\nregion"),
    ],
)
def test_the_paths_that_an_agent_reads(path: str, value: str):
    async def promise(found: Metadata) -> None:
        assert await found.get(path) == (200, value)

    with_metadata(promise)


def test_the_role_has_credentials_with_a_session_token_and_an_end():
    async def promise(found: Metadata) -> None:
        told = json.loads((await found.get("iam/security-credentials/zdd-host"))[1])
        assert (told["Code"], told["AccessKeyId"]) == ("Success", "ASIAH1")
        assert told["Token"]
        assert told["Expiration"].endswith("Z")
        assert json.loads((await found.get("iam/info"))[1])["InstanceProfileArn"].endswith("/zdd-host")

    with_metadata(promise)


def test_the_instance_identity_document_names_the_instance():
    async def promise(found: Metadata) -> None:
        path = "/latest/dynamic/instance-identity/document"
        _, text = await found.call("GET", path, **{TOKEN: await found.token()})
        told = json.loads(text)
        assert (told["instanceId"], told["privateIp"], told["region"]) == ("i-1", "127.1.2.11", "us-east-1")

    with_metadata(promise)


def test_tags_are_there_only_when_the_instance_opts_in():
    async def promise(found: Metadata) -> None:
        assert (await found.get("tags/instance"))[0] == 404
        found.identity.tags["Name"] = "h1"
        assert await found.get("tags/instance") == (200, "Name")
        assert await found.get("tags/instance/Name") == (200, "h1")

    with_metadata(promise)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("spot/instance-action", '{"action":"terminate","time":"2027-01-01T00:02:00Z"}'),
        ("events/recommendations/rebalance", '{"noticeTime":"2027-01-01T00:00:00Z"}'),
        ("events/maintenance/scheduled", "[]"),
        ("autoscaling/target-lifecycle-state", "Terminated"),
    ],
)
def test_an_announcement_is_404_until_its_time_and_again_when_taken_back(path: str, text: str):
    async def promise(found: Metadata) -> None:
        found.imds.announce(path, text, after=120)
        assert (await found.get(path))[0] == 404
        found.now += 120
        assert await found.get(path) == (200, text)
        found.imds.announce(path, None)
        assert (await found.get(path))[0] == 404

    with_metadata(promise)


def test_botocores_own_client_gets_the_roles_credentials_without_v1(monkeypatch: pytest.MonkeyPatch):
    async def promise(found: Metadata) -> None:
        fetcher = InstanceMetadataFetcher(num_attempts=1, base_url=found.url, config={"ec2_metadata_v1_disabled": True})
        told = await asyncio.to_thread(fetcher.retrieve_iam_role_credentials)
        assert told["access_key"] == "ASIAH1"
        assert found.imds.v1_requests == 0

    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    with_metadata(promise)
