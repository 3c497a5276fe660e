"""Watches Python files, for those who edit them while a worker runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["SourceWatch"]

#: Folders that hold no source that anybody edits; hidden ones and virtual environments beside them.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


class SourceWatch:
    """The `.py` files below a folder, and when they were changed."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._seen = dict(_modified(folder))

    def changes(self) -> list[str]:
        """Those that were changed, made or removed since the last call, as paths from the folder on."""
        before, self._seen = self._seen, dict(_modified(self._folder))
        changed = {path for path, _ in before.items() ^ self._seen.items()}
        return sorted(os.path.relpath(path, self._folder) for path in changed)


def _modified(folder: str) -> Iterator[tuple[str, int]]:
    """Each source file with its time of modification, in nanoseconds."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return  # gone, or not for us to read
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _SKIPPED:
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _modified(entry.path)
            elif entry.name.endswith(".py"):
                yield entry.path, entry.stat().st_mtime_ns
        except OSError:
            continue  # gone in the meantime
