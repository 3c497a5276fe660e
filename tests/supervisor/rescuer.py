"""A rescuer that writes into the diary what it was told, and answers as its brief says."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def main() -> None:
    brief: dict[str, Any] = json.loads(base64.b64decode(sys.stdin.readline()))

    def write(event: dict[str, Any]) -> None:
        line = json.dumps({"who": "rescuer", "child_lives": is_alive(brief["child"]), **event})
        diary = os.open(brief["diary"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(diary, f"{line}\n".encode())
        os.close(diary)

    write({"event": "started", "brief_size": len(json.dumps(brief)), "pid": os.getpid()})
    for line in sys.stdin:
        command = json.loads(line)
        write({"event": command["do"], "command": command})
        failures = Path(brief["diary"] + ".failures")
        count = len(failures.read_text()) if failures.exists() else 0
        if count < brief.get("failures", 0):
            failures.write_text("x" * (count + 1))
            if brief.get("silent"):
                time.sleep(3600)
            print("failed: the store is away", flush=True)
        else:
            print("ok", flush=True)
    write({"event": "dismissed"})


if __name__ == "__main__":
    main()
