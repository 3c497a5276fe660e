"""How the first argument of every command finds the app, and what is said when it doesn't."""

from __future__ import annotations

import pytest

from cli.kit import SHOP, Shell


@pytest.mark.parametrize(
    ("target", "task"),
    [
        ("shop:queue", "shop.add"),
        ("shop", "shop.add"),
        ("shop.py", "shop.add"),
        ("./shop.py:queue", "shop.add"),
        ("services.billing.tasks:queue", "services.billing.tasks.add"),
        ("services/billing/tasks.py", "services.billing.tasks.add"),
        ("scripts/tasks.py:queue", "tasks.add"),
    ],
)
async def test_a_module_or_a_file_names_its_tasks_as_its_neighbours_import_it(
    shell: Shell, target: str, task: str
) -> None:
    for package in ("services", "services/billing"):
        shell.write(f"{package}/__init__.py", "")
    shell.write("services/billing/tasks.py", SHOP)
    shell.write("scripts/tasks.py", SHOP)  # no package: its own folder is where imports start
    done = await shell.run("check", target)
    assert done.code == 0, done.err
    assert task in done.out


async def test_an_alias_is_no_second_app(shell: Shell) -> None:
    shell.write("aliased.py", "from asyncq import AsyncQ\nqueue = AsyncQ('one')\napp = queue\n")
    assert (await shell.run("queues", "aliased")).code == 0


async def test_an_attribute_may_be_dotted(shell: Shell) -> None:
    shell.write("held.py", "from asyncq import AsyncQ\nclass Services:\n    queue = AsyncQ('held')\n")
    assert (await shell.run("queues", "held:Services.queue")).code == 0


@pytest.mark.parametrize(
    ("target", "source", "words"),
    [
        ("nowhere:queue", "", ["no module named 'nowhere'", "run asyncq from the folder that holds it"]),
        ("nowhere.py", "", ["there is no file nowhere.py"]),
        ("not-a-name:queue", "", ["'not-a-name' is no module's name"]),
        ("odd", "", ["there is no AsyncQ in odd", "queue = AsyncQ('odd')"]),
        ("odd:app", "from asyncq import AsyncQ\nqueue = AsyncQ('odd')", ["odd has no 'app'", "there is odd:queue"]),
        ("odd:queue", "import queue", ["odd:queue is of type module, no AsyncQ"]),
        (
            "odd",
            "from asyncq import AsyncQ\na = AsyncQ('a')\nb = AsyncQ('b')",
            ["which app? odd has odd:a and odd:b"],
        ),
        ("odd", "from asyncq import AsyncQ\nqueue = AsyncQ('odd', concurrency='many')", ["concurrency="]),
    ],
)
async def test_what_is_wrong_is_one_line_that_says_what_to_do(
    shell: Shell, target: str, source: str, words: list[str]
) -> None:
    shell.write("odd.py", source)
    done = await shell.run("worker", target)
    assert done.code == 2
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("asyncq: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("target", ["broken:queue", "outer:queue", "including:queue"])
async def test_an_import_error_shows_the_users_own_traceback(shell: Shell, target: str) -> None:
    shell.write("broken.py", "import json\n\njson.loads('{')\n")
    shell.write("outer.py", "import broken\n")
    shell.write("including.py", "from asyncq import AsyncQ\nqueue = AsyncQ('x', include=['broken'])\n")
    done = await shell.run("worker", target)
    assert done.code == 2
    assert 'broken.py", line 3, in <module>' in done.err
    assert "JSONDecodeError" in done.err
    assert "asyncq/" not in done.err
    assert "importlib" not in done.err


async def test_a_module_that_misses_another_is_not_said_to_be_missing_itself(shell: Shell) -> None:
    shell.write("needy.py", "import no_such_library\n")
    done = await shell.run("worker", "needy")
    assert done.code == 2
    assert 'needy.py", line 1, in <module>' in done.err
    assert "No module named 'no_such_library'" in done.err
