"""Facts and token buckets on Redis. The server's clock decides, and each key has a time to live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from itertools import batched
from typing import TYPE_CHECKING

from asyncq.driver import Coordination, Fact
from asyncq_brokers._clients.coordination import (
    check_bucket,
    check_facts,
    check_keys,
    check_prefix,
    check_ttl,
)

from .link import Link, Script

__all__ = ["RedisCoordination"]
