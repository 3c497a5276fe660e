"""The project as a whole: what it shows, who imports whom, what is in the wheel, what must not be in the tree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "asyncq": ROOT / "asyncq",
    "asyncq_brokers": ROOT / "brokers" / "asyncq_brokers",
    "asyncq_backends": ROOT / "backends" / "asyncq_backends",
}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), path


MODULES = dict(modules())
DRIVERS = ("asyncq_brokers", "asyncq_backends")


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


# -- imports -------------------------------------------------------------------------------------------------


class Imports(ast.NodeVisitor):
    """The modules of ours that a module imports at run time, inside functions too."""

    def __init__(self, module: str, is_package: bool) -> None:
        self.found: set[str] = set()
        self._package = module if is_package else module.rpartition(".")[0]

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            base = ".".join(filter(None, (self._package, base)))
        for alias in node.names:
            full = f"{base}.{alias.name}"
            self.found.add(full if full in MODULES else base)


def imports_of(module: str) -> set[str]:
    path = MODULES[module]
    visitor = Imports(module, path.name == "__init__.py")
    visitor.visit(ast.parse(path.read_text()))
    return {name for name in visitor.found if name in MODULES and name != module}


def within(name: str, *roots: str) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def arrows() -> list[tuple[str, str]]:
    return [(module, target) for module in MODULES for target in sorted(imports_of(module))]


def test_no_module_imports_itself_through_others() -> None:
    graph = {module: imports_of(module) for module in MODULES}
    state: dict[str, str] = {}
    cycles: list[str] = []

    def walk(module: str, path: list[str]) -> None:
        state[module] = "open"
        for target in sorted(graph[module]):
            if state.get(target) == "open":
                cycles.append(" -> ".join([*path[path.index(target) :], target]))
            elif target not in state:
                walk(target, [*path, target])
        state[module] = "done"

    for module in graph:
        if module not in state:
            walk(module, [module])
    assert cycles == []


@pytest.mark.parametrize(
    ("package", "may_import"),
    [
        ("asyncq", ["asyncq"]),
        ("asyncq.errors", []),
        ("asyncq.protocol", ["asyncq.protocol", "asyncq.errors"]),
        ("asyncq.driver", ["asyncq.driver", "asyncq.protocol"]),
        ("asyncq_brokers", ["asyncq_brokers", "asyncq.driver", "asyncq.errors", "asyncq.protocol"]),
        (
            "asyncq_backends",
            ["asyncq_backends", "asyncq_brokers._clients", "asyncq.driver", "asyncq.errors", "asyncq.protocol"],
        ),
    ],
)
def test_arrows_run_one_way(package: str, may_import: list[str]) -> None:
    strays = [
        (module, target) for module, target in arrows() if within(module, package) and not within(target, *may_import)
    ]
    assert strays == []


def test_nothing_rests_on_the_command_line() -> None:
    users = [module for module, target in arrows() if within(target, "asyncq.cli") and not within(module, "asyncq.cli")]
    assert users == ["asyncq.__main__"]


def test_the_worker_knows_no_app() -> None:
    apps = ["asyncq._app", "asyncq._settings", "asyncq._task", "asyncq._client", "asyncq._result", "asyncq.cli"]
    assert [arrow for arrow in arrows() if within(arrow[0], "asyncq.worker") and within(arrow[1], *apps)] == []


def test_drivers_know_nothing_of_each_other() -> None:
    def driver(module: str) -> str | None:
        """One name for all of `asyncq_brokers.redis`; None for what stands beside the drivers, under private names."""
        package, _, rest = module.partition(".")
        name = rest.partition(".")[0]
        return f"{package}.{name}" if name and not name.startswith("_") else None

    strays = [
        (module, target)
        for module, target in arrows()
        if within(module, *DRIVERS) and within(target, *DRIVERS) and driver(target) not in {None, driver(module)}
    ]
    assert strays == []


def test_importing_asyncq_loads_no_server_client_and_no_command_line() -> None:
    heavy = {"redis", "pamqp", "aiobotocore", "typer", "rich", "pydantic", "asyncq.worker", "asyncq.cli"}
    program = "import sys, asyncq; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )
    assert loaded & heavy == set()


# -- what it shows -------------------------------------------------------------------------------------------

PUBLIC_NAMES = [
    "AsyncQ",
    "AsyncResult",
    "AsyncqError",
    "BackendError",
    "BrokerError",
    "ChordError",
    "ConfigurationError",
    "Context",
    "Dependency",
    "DuplicateTaskError",
    "EncodeError",
    "Group",
    "GroupResult",
    "Ignore",
    "InvalidArguments",
    "Lifespan",
    "Middleware",
    "PublishError",
    "Queue",
    "Reject",
    "RemoteTaskError",
    "ResultTimeout",
    "Retry",
    "Sending",
    "Signature",
    "SignatureError",
    "Snooze",
    "SoftTimeLimitExceeded",
    "StampingVisitor",
    "Step",
    "Task",
    "TaskError",
    "TaskState",
    "TimeLimitExceeded",
    "Unique",
    "__version__",
    "chain",
    "chord",
    "group",
]


def test_every_public_name_is_on_the_list_and_resolves() -> None:
    import asyncq

    assert sorted(asyncq.__all__) == PUBLIC_NAMES
    for name in asyncq.__all__:
        assert getattr(asyncq, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    import asyncq

    with pytest.raises(AttributeError, match="no_such_name"):
        asyncq.no_such_name  # noqa: B018 # pyright: ignore[reportAttributeAccessIssue] - it is the point


def test_the_version_stands_in_one_place() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version("asyncq") == declared
    copies = [path for path in tracked_files() if path.suffix == ".py" and f'"{declared}"' in path.read_text()]
    assert copies == []


def test_the_changelog_has_a_place_for_what_comes() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


# -- what is in the tree -------------------------------------------------------------------------------------

#: Homes, work folders and package indexes of whoever builds it; in parts, so that this file doesn't find itself.
FOREIGN = re.compile(
    "|".join(
        [
            "/" + "root/",
            "/" + "work/",
            "/" + "home/[a-z]",
            "pypi" + r"\.org",
            "python" + "hosted",
            "npmjs" + r"\.(?:com|org)",
        ]
    )
)


def test_no_machine_and_no_registry_is_named_in_the_tree() -> None:
    found: list[str] = []
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # binary: captured messages
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in FOREIGN.finditer(text)]
    assert found == []


def test_modules_stay_small() -> None:
    long = {name: lines for name, path in MODULES.items() if (lines := len(path.read_text().splitlines())) > 600}
    assert long == {}


@pytest.mark.slow
def test_the_wheel_carries_three_typed_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("asyncq-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    for package, folder in PACKAGES.items():
        assert f"{package}/py.typed" in names
        assert {f"{package}/{path.relative_to(folder)}" for path in tracked_files() if folder in path.parents} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    assert "asyncq = asyncq.cli:main" in entry_points
    assert any(name.endswith("licenses/LICENSE") for name in names)
