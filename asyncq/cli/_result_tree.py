"""A workflow as a tree of tasks and groups, each with its state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asyncq.cli._output import answer, as_json, printable, say
from asyncq.cli._states import error_text

if TYPE_CHECKING:
    from asyncq import AsyncQ, AsyncResult, TaskState

__all__ = ["Branch", "grow", "print_tree"]

#: Tasks and groups of one tree: a header of 100,000 tasks helps nobody on a terminal.
_MOST = 400


@dataclass
class Branch:
    """A task or a group, and what it has sent or holds."""

    id: str
    state: TaskState
    is_group: bool
    children: list[Branch] = field(default_factory=list["Branch"])
    #: There is more than fits into a tree.
    cut: bool = False


async def grow(queue: AsyncQ, task_id: str) -> Branch:
    """The whole tree that a task stands in. Raises ConfigurationError, BackendError, DecodeError."""
    # The body of a chord is told of by its own record alone: its header's were stored before anybody sent it.
    sent_by: dict[str, str] = {}
    top, parent_id = task_id, (await queue.result(task_id).state()).parent_id
    # Retries name themselves, and a stranger's record may name anybody.
    while parent_id is not None and parent_id not in {*sent_by, task_id} and len(sent_by) < _MOST:
        state = await queue.result(parent_id).state()
        if state.status == "PENDING":
            break
        sent_by[parent_id] = top
        top, parent_id = parent_id, state.parent_id
    return await _Grower(queue, sent_by).branch(queue.result(top))


class _Grower:
    """Makes branches of results, each once."""

    def __init__(self, queue: AsyncQ, sent_by: Mapping[str, str]) -> None:
        """`sent_by` maps a task to one that is known to have followed it."""
        self._queue = queue
        self._sent_by = sent_by
        self._found: set[str] = set()

    async def branch(self, result: AsyncResult[Any]) -> Branch:  # Any: of whatever task
        from asyncq import GroupResult

        self._found.add(result.task_id)
        branch = Branch(result.task_id, await result.state(), isinstance(result, GroupResult))
        for child in await result.children():
            await self._add(branch, child)
        follower = self._sent_by.get(result.task_id)
        if follower is not None:
            await self._add(branch, self._queue.result(follower))
        return branch

    async def _add(self, branch: Branch, child: AsyncResult[Any]) -> None:
        if len(self._found) >= _MOST:
            branch.cut = True
        elif child.task_id not in self._found:
            branch.children.append(await self.branch(child))


def print_tree(root: Branch, task_id: str, *, json: bool) -> None:
    """Print it to stdout, with a mark at the task that was asked for."""
    if json:
        answer(as_json(_document(root)))
        return
    for line in _lines(root, task_id):
        answer(line)
    if any(each.cut for each in _all(root)):
        say(f"only {_MOST} of its tasks are shown")


def _lines(branch: Branch, task_id: str, before: str = "", after: str = "") -> Iterator[str]:
    yield before + printable(_words(branch)) + (" <" if branch.id == task_id else "")
    for left, child in zip(reversed(range(len(branch.children))), branch.children, strict=True):
        joint, gap = ("├── ", "│   ") if left else ("└── ", "    ")
        yield from _lines(child, task_id, after + joint, after + gap)


def _words(branch: Branch) -> str:
    state = branch.state
    words = [state.status, "group" if branch.is_group else state.task, branch.id]
    if isinstance(state.info, Exception) and not branch.is_group:
        words.append(error_text(state.info))
    return " ".join(filter(None, words))


def _document(branch: Branch) -> dict[str, Any]:  # Any: JSON
    state = branch.state
    document: dict[str, Any] = {"id": branch.id, "status": state.status}
    if branch.is_group:
        document["group"] = True
    if state.task is not None:
        document["task"] = state.task
    if isinstance(state.info, Exception) and not branch.is_group:
        document["error"] = error_text(state.info)
    document["children"] = [_document(child) for child in branch.children]
    return document


def _all(branch: Branch) -> Iterator[Branch]:
    yield branch
    for child in branch.children:
        yield from _all(child)
