"""From a URL to a file that nobody else can read."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from asyncq.errors import ConfigurationError

#: An app's name becomes a file's name, so it must not lead anywhere else.
_APP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

#: So that no thread finds the file, opens and locks it while another still has to close what it made.
_creating = threading.Lock()

_FORMS = "sqlite:// (the default place), sqlite:///relative.sqlite or sqlite:////absolute.sqlite"


def locate(url: str, app: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The file that the URL names, as an absolute path. Touches nothing.

    `sqlite://` is `<app>.sqlite` in `$ASYNCQ_HOME`, else in `$XDG_STATE_HOME/asyncq`, else in
    `~/.local/state/asyncq`, whatever the working directory. Raises ConfigurationError.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ConfigurationError(f"a SQLite URL is {_FORMS}")
    if not rest:
        if not _APP_NAME.fullmatch(app):
            raise ConfigurationError(
                f"the app's name {app!r} can't be a file's name (letters, digits, '_', '.', '-'): "
                f'name the file, as in broker="{scheme}:///tasks.sqlite"'
            )
        return _default_folder(environ) / f"{app}.sqlite"
    host, slash, path = rest.partition("/")
    path = unquote(path)
    if host or not slash or not path or "?" in path or "\0" in path or path == ":memory:":
        hint = "; memory:// keeps nothing on disk" if path == ":memory:" else ""
        raise ConfigurationError(f"a SQLite URL is {_FORMS}{hint}")
    return Path(path).expanduser().absolute()


def _default_folder(environ: Mapping[str, str]) -> Path:
    if home := environ.get("ASYNCQ_HOME"):
        return Path(home).expanduser().absolute()
    # The XDG base directory specification: a relative path there is to be ignored.
    state = environ.get("XDG_STATE_HOME", "")
    return (Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state") / "asyncq"


def prepare(path: Path) -> None:
    """Make the file, 0600, and its folder, 0700, where there is none. What is there keeps its permissions.

    Raises ConfigurationError if it is no file, OSError for what the system refuses.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives the log and the index beside it the file's own permissions.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with _creating, contextlib.suppress(FileExistsError):
        # Never open a file that is there: to close it would drop every POSIX lock that this process's connections hold
        # on it, and the next process to leave would take itself for the last one and delete the log under them.
        os.close(os.open(path, flags, 0o600))
    if not path.is_file():
        raise ConfigurationError(f"{path} is no file")
