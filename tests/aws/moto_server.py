"""A private moto, which imitates AWS, on a free loopback port. It has an environment of its own (scripts/moto.sh)."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from servers import free_port

#: Where scripts/moto.sh puts it.
PYTHON = Path(__file__).parents[2] / ".venv-moto" / "bin" / "python"

#: What it runs.
_MAIN = Path(__file__).with_name("moto_main.py")

#: Seconds until it must answer, or be gone.
_PATIENCE = 40.0

#: Every test has it: moto takes any key.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


class MotoServer:
    """SQS, DynamoDB and S3 of one's own; what is in them goes with the process."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if not PYTHON.exists():
            pytest.skip("no moto: scripts/moto.sh sets it up")
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(
                [str(PYTHON), str(_MAIN), str(self.port)],
                stdout=log,
                stderr=log,
                env=os.environ | CREDENTIALS,
                start_new_session=True,
            )
            try:
                self._await_answer()
            except BaseException:
                self._end()
                log.seek(0)
                print(log.read().decode(errors="replace")[-2000:])
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sqs_url(self) -> str:
        return f"sqs://testing:testing@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """SIGSTOP: connections stay, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_PATIENCE)

    def _await_answer(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"{self.endpoint}/moto-api/data.json", timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                pass
            if self._process.poll() is not None:
                raise RuntimeError("moto_server ended")
            if time.monotonic() > deadline:
                raise TimeoutError("moto_server does not answer")
            time.sleep(0.05)
