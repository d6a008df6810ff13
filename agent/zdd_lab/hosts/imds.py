"""One host's instance metadata service (IMDS): version 2 only, as strict as the real one.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from zdd_lab.model.faults import FaultKind, FaultTable

_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105  # a header's name
_TTL_RANGE = range(1, 21601)  # s [doc]
_ROOTS = ("/latest/meta-data", "/latest/dynamic")


@dataclass(slots=True)
class Imds:
    """Answers metadata requests for one instance.

    Args:
        host: the host's name, for the fault table.
        clock: wall time in s, for the life of tokens and the start of announcements.
        render: every path under /latest/ with its text, asked anew for each request: keys and tags change.
    """

    host: str
    clock: Callable[[], float]
    faults: FaultTable
    render: Callable[[], dict[str, str]]
    off: bool = False  # HttpEndpoint=disabled: 403
    throttled: int = 0  # this many of the next requests get 503
    v1_requests: int = 0  # GETs without a token, all refused
    requests: int = 0
    _tokens: dict[str, float] = field(default_factory=dict)  # token -> its end, s
    _announced: dict[str, tuple[float, str]] = field(default_factory=dict)  # path -> from when (s), text

    def announce(self, path: str, text: str | None, after: float = 0.0) -> None:
        """Answer `text` under /latest/meta-data/`path`, from `after` s on. None takes it back at once."""
        path = f"meta-data/{path.strip('/')}"
        if text is None:
            self._announced.pop(path, None)
        else:
            self._announced[path] = (self.clock() + after, text)

    def forget_tokens(self) -> None:
        """Make every token invalid, as a stop and start of the instance does."""
        self._tokens.clear()

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.faults.take(FaultKind.IMDS_DOWN, client=self.host):
            if request.transport:
                request.transport.abort()
            return web.Response(status=503)
        if self.throttled > 0:
            self.throttled -= 1
            return web.Response(status=503)
        if self.off:
            return web.Response(status=403)
        if request.path == "/latest/api/token":
            return self._token(request)
        return self._metadata(request)

    def _token(self, request: web.Request) -> web.Response:
        if request.method != "PUT":
            return web.Response(status=405)
        if "X-Forwarded-For" in request.headers:
            return web.Response(status=403)
        asked = request.headers.get(_TTL_HEADER, "")
        if not (asked.isascii() and asked.isdecimal() and int(asked) in _TTL_RANGE):
            return web.Response(status=400)
        token = secrets.token_urlsafe(42)
        now = self.clock()
        self._tokens = {one: until for one, until in self._tokens.items() if until > now}
        self._tokens[token] = now + int(asked)
        return web.Response(text=token, headers={_TTL_HEADER: asked})

    def _metadata(self, request: web.Request) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405)
        token = request.headers.get(_TOKEN_HEADER)
        if token is None:
            self.v1_requests += 1
            return web.Response(status=401)
        left = self._tokens.get(token, 0.0) - self.clock()
        if left <= 0:
            return web.Response(status=401)
        text = self._look_up(request.path)
        if text is None:
            return web.Response(status=404)
        return web.Response(text=text, headers={_TTL_HEADER: str(int(left))})

    def _look_up(self, path: str) -> str | None:
        """The text of a path, or the list of what is below it, or None."""
        if not path.startswith(_ROOTS):
            return None
        now = self.clock()
        leaves = self.render()
        leaves |= {name: text for name, (since, text) in self._announced.items() if since <= now}
        wanted = path.removeprefix("/latest/").rstrip("/")
        if wanted in leaves:
            return leaves[wanted]
        below = [name.removeprefix(f"{wanted}/") for name in leaves if name.startswith(f"{wanted}/")]
        return (
            "\n".join(sorted({first + (slash and "/") for first, slash, _ in (n.partition("/") for n in below)}))
            or None
        )
