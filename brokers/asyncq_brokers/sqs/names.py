"""Names of queues on SQS: kombu's mapping (sqs.md, section 3)."""

from __future__ import annotations

import re
import string

from asyncq.errors import ConfigurationError

__all__ = ["FIFO", "is_fifo", "sqs_name"]

#: What the name of a FIFO queue ends in; nothing else may.
FIFO = ".fifo"

#: As `dead_queue` ends a name; SQS has `q-dead` and `q-dead.fifo`.
_DEAD = ".dead"

_KOMBU = {ord(character): "_" for character in f"{string.punctuation} " if character not in "-_."} | {ord("."): "-"}

#: What SQS takes, its ending aside.
_ALLOWED = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST = 80


def is_fifo(name: str) -> bool:
    """Whether a queue of this name is a FIFO queue."""
    return name.endswith(FIFO)


def sqs_name(prefix: str, name: str) -> str:
    """What a queue is called on SQS. Raises ConfigurationError for what can't be a name there."""
    full = f"{prefix}{name}"
    if full.endswith(f"{FIFO}{_DEAD}"):
        full = f"{full.removesuffix(FIFO + _DEAD)}{_DEAD}{FIFO}"
    fifo = is_fifo(full)
    mapped = full.removesuffix(FIFO).translate(_KOMBU) + (FIFO if fifo else "")
    if not _ALLOWED.fullmatch(mapped.removesuffix(FIFO)) or len(mapped) > _LONGEST:
        raise ConfigurationError(
            f"{mapped[:100]!r} can't be the name of a queue on SQS: letters and digits of ASCII, - and _ can, "
            f"{_LONGEST} at most"
        )
    return mapped
