"""Where queues are: found, or created when they are missing and we may."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.aws import Account, AwsLink, Refusal, arn, partition

from .batches import MISSING
from .names import FIFO, is_fifo, sqs_name
from .options import BrokerOptions, PredefinedQueue

__all__ = ["KnownQueue", "Queues"]


class KnownQueue(Struct, frozen=True, eq=False):
    """One queue on SQS."""

    #: As the app calls it.
    name: str
    url: str
    link: AwsLink
    fifo: bool
    predefined: PredefinedQueue | None = None


class Queues:
    """The queues of one broker, by the app's names. What was found once is remembered."""

    def __init__(self, account: Account, options: BrokerOptions, new_link: Callable[[Account], AwsLink]) -> None:
        self._account = account
        self._options = options
        self._new_link = new_link
        self.link = new_link(account)
        #: Links of predefined queues that have an account of their own.
        self._links: dict[Account, AwsLink] = {account: self.link}
        self._known: dict[str, KnownQueue] = {}
        self._finding = asyncio.Lock()

    @property
    def links(self) -> list[AwsLink]:
        """Every link that was made."""
        return list(self._links.values())

    async def get(self, name: str) -> KnownQueue:
        """The queue, created when it is missing. Raises ConfigurationError, BrokerError."""
        queue = await self.find(name)
        return queue or await self._create(name)

    async def find(self, name: str) -> KnownQueue | None:
        """The queue; None where there is none. Raises ConfigurationError for one that isn't predefined, BrokerError."""
        known = self._known.get(name)
        if known is not None:
            return known
        if self._options.predefined_queues:
            return self._remember(self._predefined(name))
        mapped = sqs_name(self._options.queue_name_prefix, name)
        async with self._finding:  # asked for by many at once when an app starts
            return self._known.get(name) or await self._look_up(name, mapped)

    def forget(self, name: str) -> None:
        """Look it up again the next time: it was deleted, or made anew."""
        self._known.pop(name, None)

    def is_defined(self, name: str) -> bool:
        """Whether there may be such a queue: any, unless the user has listed them."""
        predefined = self._options.predefined_queues
        return not predefined or sqs_name(self._options.queue_name_prefix, name) in predefined

    def arn(self, name: str) -> str:
        """Its name in policies; nobody is asked."""
        mapped = sqs_name(self._options.queue_name_prefix, name)
        predefined = self._options.predefined_queues.get(mapped)
        if predefined is None:
            return arn(self._account, mapped)
        # https://sqs.eu-west-1.amazonaws.com/123456789012/orders; a VPC's endpoint has another host.
        owner, _, called = urlsplit(predefined.url).path.strip("/").rpartition("/")
        region = predefined.region or _region_of(predefined.url) or self._account.region
        number = owner.rpartition("/")[2]
        return f"arn:{partition(region)}:sqs:{region or '*'}:{number if number.isdigit() else '*'}:{called or mapped}"

    async def _look_up(self, name: str, mapped: str) -> KnownQueue | None:
        try:
            answer = await self.link.call("get_queue_url", harmless=True, QueueName=mapped)
            return self._remember(KnownQueue(name, answer["QueueUrl"], self.link, is_fifo(mapped)))
        except Refusal as refusal:
            if refusal.code in MISSING:
                return None
            if not refusal.denied:
                raise self.link.translated(refusal) from refusal
        # Policies that were made for Celery allow ListQueues instead, which is how kombu finds them.
        try:
            answer = await self.link.call("list_queues", harmless=True, QueueNamePrefix=mapped)
        except Refusal as refusal:
            raise self.link.translated(refusal, starting=True) from refusal
        for url in answer.get("QueueUrls", ()):
            if url.rpartition("/")[2] == mapped:
                return self._remember(KnownQueue(name, url, self.link, is_fifo(mapped)))
        return None

    async def _create(self, name: str) -> KnownQueue:
        mapped = sqs_name(self._options.queue_name_prefix, name)
        attributes = {"VisibilityTimeout": str(self._options.visibility_timeout)}
        if mapped.endswith(FIFO):
            attributes["FifoQueue"] = "true"
        tags: Mapping[str, str] = self._options.queue_tags
        parameters: dict[str, Any] = {"tags": dict(tags)} if tags else {}
        try:
            answer = await self.link.call(
                "create_queue",
                harmless=True,
                QueueName=mapped,
                Attributes={**attributes, **self._options.creation_attributes},
                **parameters,
            )
        except Refusal as refusal:
            if refusal.denied:
                raise ConfigurationError(
                    f"there is no queue {mapped!r} on {self._account.address}, and sqs:CreateQueue is denied: create "
                    "it, or allow that action in the IAM policy"
                ) from refusal
            raise self.link.translated(refusal) from refusal
        return self._remember(KnownQueue(name, answer["QueueUrl"], self.link, is_fifo(mapped)))

    def _predefined(self, name: str) -> KnownQueue:
        mapped = sqs_name(self._options.queue_name_prefix, name)
        found = self._options.predefined_queues.get(mapped)
        if found is None:
            raise ConfigurationError(f"the queue {mapped!r} must be defined in 'predefined_queues'")
        account = Account(
            service="sqs",
            region=found.region or self._account.region,
            endpoint_url=self._account.endpoint_url,
            access_key=found.access_key or self._account.access_key,
            secret_key=found.secret_key or self._account.secret_key,
            role=self._account.role,
            role_duration=self._account.role_duration,
        )
        if account not in self._links:
            self._links[account] = self._new_link(account)
        return KnownQueue(name, found.url, self._links[account], is_fifo(mapped), found)

    def _remember(self, queue: KnownQueue) -> KnownQueue:
        self._known[queue.name] = queue
        return queue


def _region_of(url: str) -> str | None:
    """The region that stands in a host of AWS: `sqs.eu-west-1.amazonaws.com`, `vpce-1.sqs.eu-west-1.vpce…`."""
    found = re.search(r"(?:^|\.)sqs\.([a-z]+(?:-[a-z]+)+-\d+)\.", urlsplit(url).hostname or "")
    return found[1] if found else None
