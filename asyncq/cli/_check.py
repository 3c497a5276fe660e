"""`asyncq check`: does it work, and what is missing."""

from __future__ import annotations

import typer

from asyncq.cli._failures import ExitCode
from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption
from asyncq.cli._output import answer, as_json


def check(app: AppArgument, json: JsonOption = False) -> None:
    """Connect to the broker and to the result backend, and tell in plain words what works and what is missing.

    It sends no task; one result record is written, read and removed. Exits with 0 when everything works, 1 when
    something doesn't, 3 when a server cannot be reached.
    """
    import asyncio
    from dataclasses import asdict

    from asyncq.cli._findings import Verdict, examine

    findings = asyncio.run(examine(locate(app)))
    verdicts = {finding.verdict for finding in findings}
    if Verdict.UNREACHABLE in verdicts:
        code = ExitCode.UNREACHABLE
    else:
        code = ExitCode.FAILED if Verdict.FAILED in verdicts else ExitCode.OK
    if json:
        answer(as_json({"ok": code is ExitCode.OK, "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            answer(f"{finding.verdict:<11} {finding.subject}: {finding.text}")
    raise typer.Exit(code)
