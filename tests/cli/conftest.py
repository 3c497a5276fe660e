from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import SHOP, Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with an app in it."""
    shell = Shell(tmp_path)
    shell.write("shop.py", SHOP)
    return shell
