"""What `asyncq worker chaos.program:queue` serves. The environment variable CHAOS holds the `Settings`, as JSON."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from chaos.app import LedgerHandler, Settings, make_app
from chaos.clock import CLOCK, follow
from chaos.ledger import Ledger
from chaos.perils import declare_perils

_settings = msgspec.json.decode(os.environ["CHAOS"], type=Settings)
_ledger = Ledger(_settings.ledger)
if (_clock := Path(_settings.ledger) / CLOCK).exists():
    follow(_clock)
queue = make_app(_settings)
declare_perils(queue, _ledger)
logging.getLogger("asyncq").addHandler(LedgerHandler(_ledger))

# A user's tasks stand in a module under their names, where a process that a suspect has to itself finds them.
for _task in queue.tasks.values():
    _fn = _task.definition.fn
    _fn.__module__, _fn.__qualname__ = __name__, _fn.__name__
    globals()[_fn.__name__] = _task
