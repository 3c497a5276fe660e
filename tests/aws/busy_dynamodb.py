"""A DynamoDB of which too much is asked: a proxy before moto's, which always has time.

It answers as AWS does then: it leaves members of batches undone, throttles, fails, and loses answers to what was done.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, Self

import aiohttp
from aiohttp import web

Json = dict[str, Any]

#: Of a request and of an answer, what is handed on.
_ASKED = ("Authorization", "Content-Type", "X-Amz-Date", "X-Amz-Target")
_ANSWERED = ("Content-Type", "x-amzn-requestid")

#: Batches, and how an answer calls what is left of them.
_LEFT = {"BatchGetItem": "UnprocessedKeys", "BatchWriteItem": "UnprocessedItems"}

_THROTTLED = ("ProvisionedThroughputExceededException", 400)
_FAILED = ("InternalServerError", 500)


class BusyDynamo:
    """`async with BusyDynamo(moto.endpoint) as busy: …`; what it is told holds for the next requests of an action."""

    def __init__(self, target: str) -> None:
        self._target = target
        #: Requests by action.
        self.requests: Counter[str] = Counter()
        #: How many requests are refused next, since too much is asked, and by the server's fault.
        self.throttled: Counter[str] = Counter()
        self.failing: Counter[str] = Counter()
        #: How many are done next without an answer.
        self.silent: Counter[str] = Counter()
        #: Actions that the policy denies, and what every table is said to be.
        self.denied: set[str] = set()
        self.table_status: str | None = None
        #: How many members of a batch are done at a time; None does all.
        self.members: int | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=32 * 1024 * 1024)
        application.router.add_post("/", self._handle)
        self._runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1, handler_cancellation=True)
        self._session = aiohttp.ClientSession(auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(0)  # the session's connections end at the loop's next turn

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        action = request.headers["X-Amz-Target"].rpartition(".")[2]
        self.requests[action] += 1
        if action in self.denied:
            return _json({"__type": "com.amazon.coral.service#AccessDeniedException", "message": "not you"}, 400)
        if action == "DescribeTable" and self.table_status is not None:
            return _json({"Table": {"TableStatus": self.table_status}}, 200)
        for refused, (code, status) in ((self.throttled, _THROTTLED), (self.failing, _FAILED)):
            if refused[action] > 0:
                refused[action] -= 1
                return _json({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "not now"}, status)
        body = await request.read()
        undone: Json = {}
        if self.members is not None and action in _LEFT:
            body, undone = _shortened(json.loads(body), self.members)
        if undone and not self.members:
            return _json({_LEFT[action]: undone}, 200)
        headers = {name: request.headers[name] for name in _ASKED if name in request.headers}
        async with self._session.post(self._target, headers=headers, data=body) as answer:
            answered = await answer.read()
            kept = {name: answer.headers[name] for name in _ANSWERED if name in answer.headers}
            status = answer.status
        if self.silent[action] > 0:
            self.silent[action] -= 1
            assert request.transport is not None
            request.transport.abort()
        if undone and status == 200:
            return _json({**json.loads(answered), _LEFT[action]: undone}, status)
        return web.Response(status=status, body=answered, headers=kept)


def _json(content: Json, status: int) -> web.Response:
    return web.json_response(content, status=status, content_type="application/x-amz-json-1.0")


def _shortened(asked: Json, members: int) -> tuple[bytes, Json]:
    """A batch of so few members, and what is undone of it, as the answer says it."""
    ((table, wanted),) = asked["RequestItems"].items()
    if isinstance(wanted, list):
        done, rest = wanted[:members], wanted[members:]
    else:
        keys = wanted["Keys"]
        done, rest = {**wanted, "Keys": keys[:members]}, keys[members:] and {**wanted, "Keys": keys[members:]}
    return json.dumps({**asked, "RequestItems": {table: done}}).encode(), {table: rest} if rest else {}
