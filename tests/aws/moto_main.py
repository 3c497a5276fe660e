"""Runs moto's server, one call of DynamoDB at a time: AWS's calls are atomic, moto's threads are not.

Run by moto's own Python: `python moto_main.py PORT`.
"""

# pyright: basic, reportMissingImports=false
# moto is in an environment of its own

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_turn = threading.Lock()


class OneAtATime:
    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB"):
            with _turn:
                return list(self._application(environ, start_response))
        return self._application(environ, start_response)


if __name__ == "__main__":
    application = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", int(sys.argv[1]), OneAtATime(application), threaded=True)
