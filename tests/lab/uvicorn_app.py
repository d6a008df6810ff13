"""An ASGI app for uvicorn, with the paths of the lab's own app. uvicorn itself names host and version, by --header."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

SLOW_SHARE, SLOW_MAX = 0.05, 1.0  # of the requests to /: share of slow ones, and s of the slowest
Message = dict[str, Any]
Receive, Send = Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]
health_code = 200


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    query = {name: float(values[0]) for name, values in parse_qs(scope["query_string"].decode()).items()}
    match scope["path"]:
        case "/":
            await asyncio.sleep(random.uniform(0, SLOW_MAX) if random.random() < SLOW_SHARE else 0)
            await answer(send, 200, b"{}")
        case "/healthz":
            await answer(send, health_code, b"{}")
        case "/_lab/health":
            globals()["health_code"] = json.loads(await body(receive))["code"]
            await answer(send, 200, b"{}")
        case "/sleep":
            await asyncio.sleep(query["seconds"])
            await answer(send, 200, b"{}")
        case "/stream":
            await stream(send, query["seconds"], query["step"])
        case "/upload":
            await answer(send, 200, json.dumps({"length": len(await body(receive))}).encode())
        case _:
            await answer(send, 404, b"{}")


async def body(receive: Receive) -> bytes:
    whole, more = b"", True
    while more:
        part = await receive()
        whole, more = whole + part.get("body", b""), part.get("more_body", False)
    return whole


async def answer(send: Send, status: int, text: bytes) -> None:
    length = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": length})
    await send({"type": "http.response.body", "body": text})


async def stream(send: Send, seconds: float, step: float) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(max(1, round(seconds / step))):
        await send({"type": "http.response.body", "body": b"part\n", "more_body": True})
        await asyncio.sleep(step)
    await send({"type": "http.response.body", "body": b"end\n"})
