"""`python -m asyncq.supervisor <config>`."""

from __future__ import annotations

import sys
from typing import NoReturn

from asyncq._flight import monotonic
from asyncq._logs import configure_logging
from asyncq.supervisor._config import read_config
from asyncq.supervisor._supervisor import Supervisor


def main() -> NoReturn:
    """Run until told to stop, or until there is nothing left to supervise; exit as docs/cli.md says."""
    config = read_config(sys.argv[1])
    configure_logging(config.log_level, config.log_format)
    sys.exit(Supervisor(config, clock=monotonic).run())


if __name__ == "__main__":
    main()
