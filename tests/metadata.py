"""A metadata service on loopback that counts version 1, for tests that need a real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAC = "0e:00:00:00:00:01"
LEAVES = {
    "mac": MAC,
    "local-ipv4": "10.0.0.1",
    "instance-id": "i-me",
    "placement/region": "eu-west-1",
    "placement/availability-zone": "eu-west-1a",
    "network/interfaces/macs/": f"{MAC}/",
    f"network/interfaces/macs/{MAC}/vpc-id": "vpc-1",
    f"network/interfaces/macs/{MAC}/local-ipv4s": "10.0.0.1\n10.0.0.2",
    f"network/interfaces/macs/{MAC}/ipv6s": "fd00::1",
    "iam/security-credentials/": "web",
    "iam/security-credentials/web": json.dumps(
        {
            "Code": "Success",
            "AccessKeyId": "ASIAMADEUP",
            "SecretAccessKey": "made-up",
            "Token": "made-up",
            "Expiration": "2099-01-01T00:00:00Z",
        }
    ),
}


@dataclass
class Metadata:
    """What was asked. `tokens_work` false: as if the service were off; `role_attached` false: no instance profile.

    `more`: what it answers besides the usual, or instead.
    """

    url: str = ""
    tokens_work: bool = True
    role_attached: bool = True
    without_token: list[str] = field(default_factory=list)
    with_token: list[str] = field(default_factory=list)
    more: dict[str, str] = field(default_factory=dict)


@contextmanager
def metadata_service() -> Iterator[Metadata]:
    seen = Metadata()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(200 if seen.tokens_work else 403, "token-1")

        def do_GET(self) -> None:
            if self.headers.get("X-aws-ec2-metadata-token") != "token-1":
                seen.without_token.append(self.path)
            else:
                seen.with_token.append(self.path)
            text = {**LEAVES, **seen.more}.get(self.path.removeprefix("/latest/meta-data/"))
            if "/iam/" in self.path and not seen.role_attached:
                text = None
            self._answer(404 if text is None else 200, text or "")

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class calls it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        seen.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield seen
        finally:
            server.shutdown()
