"""A rescuer that dies in the middle: `python -m suspects.dying_rescuer STEP`, when it has done that step."""

from __future__ import annotations

import os
import sys
from typing import Any

from asyncq._operating import _burying
from asyncq.cli._rescue import main

step = getattr(_burying, sys.argv[1])


async def and_die(*args: Any) -> None:
    await step(*args)
    os._exit(9)


setattr(_burying, sys.argv[1], and_die)
main()
