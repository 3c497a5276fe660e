"""Calls of one AWS service: a client that is made when it is needed, and a deadline of our own around each call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import cache
from typing import Any, TypeAlias

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError, NoCredentialsError
from botocore.loaders import Loader

from asyncq.driver import Environment
from asyncq_brokers._clients.error_family import ErrorFamily, foreign_cancellation

from .account import Account
from .errors import Refusal, translate
from .roles import assume_role

__all__ = ["AwsLink", "Reply"]

#: What a service answers: JSON.
Reply: TypeAlias = dict[str, Any]
_Call: TypeAlias = Callable[..., Coroutine[Any, Any, Reply]]

#: Connections of one client: long polls of many queues keep one each.
_MOST_CONNECTIONS = 200

#: Seconds that the making of a client may take, credentials included.
_MAKING = 15.0

#: Seconds: pauses while AWS says that too much is asked, or fails. They grow twofold, with full jitter.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0

#: Connections that are tried again after one was refused: endpoints change their machines; a wrong one stays wrong.
_REFUSALS = 3


class AwsLink:
    """One service for one account. Belongs to the event loop that first awaits it.

    A call has one deadline; the making of the client, before the first, has its own. It is repeated only where nothing
    was done (throttling, an unavailable service, a refused connection), or, when the service or the connection fails,
    where the caller says that repeating does no harm.
    """

    def __init__(
        self,
        account: Account,
        *,
        errors: ErrorFamily,
        environment: Environment,
        timeout: float,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.account = account
        self.errors = errors
        self.timeout = timeout
        self._clock = environment.clock
        self._random: random.Random = environment.random
        # botocore's own retries would send again what may have been done, and its time-outs know no deadline.
        self._config = {**(config or {}), "retries": {"total_max_attempts": 1}}
        #: Monotonic time of the last answer; of the making before the first one.
        self.last_reply = self._clock.monotonic()
        #: Requests that went out.
        self.requests = 0
        self._stack = AsyncExitStack()
        self._client: Any = None  # Any: botocore makes the class at run time
        self._connecting = asyncio.Lock()
        self._closed = False

    async def call(self, method: str, /, *, wait: float = 0.0, harmless: bool = False, **parameters: Any) -> Reply:
        """Call one method of the client, as boto3 names them (`send_message_batch`).

        `wait` are the seconds that the service itself may take its time. `harmless` says that doing it twice is no
        different from doing it once. Raises Refusal when the service says no; the driver's connection error otherwise,
        and ConfigurationError for credentials.
        """
        deadline = asyncio.get_running_loop().time() + self.timeout + wait
        pause, again, refused = _FIRST_PAUSE, harmless, 0
        while True:
            try:
                client = self._client or await self._made()
                async with asyncio.timeout_at(deadline):
                    return await self._attempt(client, method, parameters)
            except ClientError as error:
                refusal = Refusal.of(error)
                again_later = refusal.throttled or refusal.status == 503 or (harmless and refusal.status >= 500)
                if not again_later or asyncio.get_running_loop().time() + pause > deadline:
                    raise refusal from error
            except EndpointConnectionError as error:  # nothing was sent
                refused += 1
                if refused > _REFUSALS or asyncio.get_running_loop().time() + pause > deadline:
                    raise translate(error, self.errors, self.account.address) from error
            except (BotoCoreError, HttpError, OSError, TimeoutError) as error:
                # A server closes idle connections: the request that met it was never read.
                if not again or not isinstance(error, HTTPClientError | HttpError | ConnectionError):
                    raise translate(error, self.errors, self.account.address) from error
                again = False
            except asyncio.CancelledError as error:
                if foreign_cancellation(error):
                    raise translate(error, self.errors, self.account.address) from error
                raise
            await asyncio.sleep(self._random.uniform(0, pause))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def ask(self, method: str, /, *, wait: float = 0.0, harmless: bool = False, **parameters: Any) -> Reply:
        """`call`, with every refusal translated."""
        try:
            return await self.call(method, wait=wait, harmless=harmless, **parameters)
        except Refusal as refusal:
            raise self.translated(refusal) from refusal

    async def download(self, reply: Reply) -> bytes:
        """What an answer of S3 goes on to send. Raises the driver's connection error."""
        try:
            async with asyncio.timeout(self.timeout), reply["Body"] as stream:
                return await stream.read()
        except (BotoCoreError, HttpError, OSError, TimeoutError) as error:
            raise translate(error, self.errors, self.account.address) from error

    def translated(self, refusal: Refusal, *, starting: bool = False) -> Exception:
        """The driver's error for a refusal; see there for `starting`."""
        return refusal.translated(self.errors, self.account.service, self.account.address, starting=starting)

    async def open(self) -> None:
        """Make the client and find credentials; nothing is sent to the service."""
        try:
            await self._made()
        except ClientError as error:  # of a role that is denied
            raise self.translated(Refusal.of(error), starting=True) from error
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise translate(error, self.errors, self.account.address) from error

    async def close(self) -> None:
        """Close for good; calls under way and later ones fail. May be called twice."""
        self._closed = True
        async with self._connecting:
            self._client = None
            await self._stack.aclose()

    async def _attempt(self, client: Any, method: str, parameters: Mapping[str, Any]) -> Reply:
        # The methods are made at run time: their names are all there is.
        call: _Call = getattr(client, method)
        self.requests += 1
        try:
            reply = await call(**parameters)
        except ClientError:
            self.last_reply = self._clock.monotonic()
            raise
        except (AttributeError, RuntimeError) as error:  # of a session that was closed under the call
            if self._closed:
                raise self._is_closed() from error
            raise
        self.last_reply = self._clock.monotonic()
        return reply

    async def _made(self) -> Any:  # Any: see `_client`
        # A deadline of its own: to read what botocore knows of a service takes a while, and no server is slow then.
        async with asyncio.timeout(_MAKING), self._connecting:
            if self._closed:
                raise self._is_closed()
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> Any:  # Any: see `_client`
        account = self.account
        session: Any = AioSession()  # Any: botocore has no types
        session.register_component("data_loader", _loader())
        region: str = account.region or session.get_config_variable("region") or "us-east-1"
        if account.role is not None:
            await assume_role(session, account, region, timeout=self.timeout)
        elif account.access_key is None and await session.get_credentials() is None:
            raise NoCredentialsError
        defaults: dict[str, Any] = {
            "connect_timeout": self.timeout,
            "read_timeout": 3600,  # ours is the deadline
            "max_pool_connections": _MOST_CONNECTIONS,
            "warm_up_loader_caches": True,  # in a thread: reading the service's description takes 100 ms and more
            "user_agent_extra": "asyncq",
        }
        config = AioConfig(**{**defaults, **self._config})
        context = session.create_client(
            account.service,
            region_name=region,
            endpoint_url=account.endpoint_url,
            # They would win against the role's, which they have borrowed.
            aws_access_key_id=None if account.role else account.access_key,
            aws_secret_access_key=None if account.role else account.secret_key,
            config=config,
        )
        return await self._stack.enter_async_context(context)

    def _is_closed(self) -> Exception:
        return self.errors.connection(f"the connection to {self.account.address} is closed")


@cache
def _loader() -> Any:  # Any: botocore has no types
    """What botocore has read of its descriptions of services: once a process is enough."""
    return Loader()
