"""Runs moto's server, one call at a time, long polls aside: AWS's calls are atomic, moto's threads are not.

Run by moto's own Python: `python moto_main.py PORT`.
"""

# pyright: basic, reportMissingImports=false
# moto is in an environment of its own

from __future__ import annotations

import io
import json
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
        if _waits(environ):
            return self._application(environ, start_response)
        with _turn:
            return list(self._application(environ, start_response))


def _waits(environ: dict[str, Any]) -> bool:
    """Whether it is a long poll, which nobody else shall wait for."""
    if not environ.get("HTTP_X_AMZ_TARGET", "").endswith(".ReceiveMessage"):
        return False
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    environ["wsgi.input"] = io.BytesIO(body)
    return json.loads(body).get("WaitTimeSeconds") != 0


if __name__ == "__main__":
    application = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", int(sys.argv[1]), OneAtATime(application), threaded=True)
