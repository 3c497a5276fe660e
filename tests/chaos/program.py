"""What `asyncq worker chaos.program:queue` serves. The environment variable CHAOS holds the `Settings`, as JSON."""

from __future__ import annotations

import logging
import os

import msgspec

from chaos.app import LedgerHandler, Settings, make_app
from chaos.ledger import Ledger

_settings = msgspec.json.decode(os.environ["CHAOS"], type=Settings)
queue = make_app(_settings)
logging.getLogger("asyncq").addHandler(LedgerHandler(Ledger(_settings.ledger)))
