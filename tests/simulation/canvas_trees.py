"""Workflows at random, as trees of plain data: what each task does, what follows it, and the signature of the whole."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from msgspec.structs import replace

import asyncq
from asyncq import Signature
from asyncq.canvas import ChainNode, ChordNode, GroupNode, Node, TaskNode

#: What a task does: it succeeds; fails; succeeds in its second attempt; fails in its last one; puts another tree in its
#: place; adds a task to the chord that it stands in; or never runs, for it has expired or was revoked.
Act: TypeAlias = Literal["succeed", "fail", "recover", "exhaust", "replace", "grow", "expire", "revoke"]

#: The tasks of every tree: one for its tasks, and the two kinds of errbacks.
PLAY, TOLD_BY_CALL, TOLD_BY_MESSAGE = "play", "told_by_call", "told_by_message"

#: Before the virtual clock begins.
_PAST = "2029-12-31T00:00:00+00:00"


@dataclass(frozen=True)
class Errback:
    label: str
    #: PLAY's sisters above.
    task: str


@dataclass(frozen=True)
class Callback:
    tree: Tree
    #: It gets no argument.
    immutable: bool = False


@dataclass(frozen=True, kw_only=True)
class _Linked:
    links: tuple[Callback, ...] = ()
    errbacks: tuple[Errback, ...] = ()


@dataclass(frozen=True)
class Task(_Linked):
    label: str
    act: Act = "succeed"
    #: What takes its place, or is added to its chord.
    inner: Tree | None = None
    #: The label is its id as well; else it gets one when it is sent.
    named: bool = False
    immutable: bool = False


@dataclass(frozen=True)
class Chain(_Linked):
    steps: tuple[Tree, ...]


@dataclass(frozen=True)
class Group(_Linked):
    members: tuple[Tree, ...]
    #: Its id.
    name: str


@dataclass(frozen=True)
class Chord(_Linked):
    header: tuple[Tree, ...]
    body: Tree
    #: With `threshold` it collects.
    collects: bool = False
    threshold: float | None = None


Tree: TypeAlias = Task | Chain | Group | Chord


# -- signatures ------------------------------------------------------------------------------------------------


def signature(tree: Tree) -> Signature[Any]:
    """As a user makes it."""
    made = _plain(tree)
    for callback in tree.links:
        made.link(signature(callback.tree))
    for errback in tree.errbacks:
        made.link_error(Signature(TaskNode(task=errback.task, kwargs={"label": errback.label}), None))
    return made


def _plain(tree: Tree) -> Signature[Any]:
    match tree:
        case Task():
            options: dict[str, Any] = {"task_id": tree.label} if tree.named else {}
            if tree.act == "expire":
                options["expires"] = _PAST
            node = TaskNode(task=PLAY, kwargs={"label": tree.label}, options=options, immutable=tree.immutable)
            return Signature(node, None)
        case Chain():
            return asyncq.chain(map(signature, tree.steps))
        case Group():
            made = asyncq.group(map(signature, tree.members))
            return Signature(replace(made.node, options={"task_id": tree.name}), None)
        case Chord():
            on_error = "collect" if tree.collects else "fail"
            header = asyncq.group(map(signature, tree.header))
            return asyncq.chord(header, signature(tree.body), on_error=on_error, threshold=tree.threshold)


def ids_of(node: Node) -> dict[str, str]:
    """The ids of a frozen signature's tasks by their labels."""
    match node:
        case TaskNode():
            return {node.kwargs["label"]: node.options["task_id"]}
        case ChainNode():
            parts = node.tasks
        case GroupNode():
            parts = list(node.tasks)
        case ChordNode():
            assert node.body is not None
            parts = [node.header, node.body]
    return {label: task_id for part in parts for label, task_id in ids_of(part).items()}


def tasks_of(tree: Tree) -> list[Task]:
    """All of them, those of callbacks and replacements too."""
    match tree:
        case Task():
            parts = () if tree.inner is None else (tree.inner,)
        case Chain():
            parts = tree.steps
        case Group():
            parts = tree.members
        case Chord():
            parts = (*tree.header, tree.body)
    found = [tree] if isinstance(tree, Task) else []
    for part in (*parts, *(callback.tree for callback in tree.links)):
        found += tasks_of(part)
    return found


def sketch(tree: Tree) -> str:
    """For whoever reads of a failure."""
    match tree:
        case Task():
            inner = "" if tree.inner is None else f" {sketch(tree.inner)}"
            marks = "!" * tree.named + "~" * tree.immutable
            made = f"{tree.label}{marks}" + ("" if tree.act == "succeed" else f"({tree.act}{inner})")
        case Chain():
            made = f"chain({', '.join(map(sketch, tree.steps))})"
        case Group():
            made = f"{tree.name}[{', '.join(map(sketch, tree.members))}]"
        case Chord():
            policy = f", collects {tree.threshold}" if tree.collects else ""
            made = f"chord([{', '.join(map(sketch, tree.header))}], {sketch(tree.body)}{policy})"
    for callback in tree.links:
        made += f".link({sketch(callback.tree)})"
    for errback in tree.errbacks:
        made += f".error({errback.label} {errback.task})"
    return made


# -- dice ------------------------------------------------------------------------------------------------------


class Grower:
    """Grows trees; all tasks of a tree have labels of their own."""

    def __init__(self, dice: random.Random, *, acts: tuple[Act, ...]) -> None:
        """`acts` are what its tasks may do beside succeeding."""
        self._dice = dice
        self._acts = acts
        #: How often a task does what is out of the ordinary.
        self._trouble = dice.choice([0.0, 0.1, 0.1, 0.3])
        self._linking = dice.choice([0.0, 0.1, 0.3])
        self._numbers = itertools.count(1)

    def tree(self, depth: int = 3, *, named: bool = False) -> Tree:
        """`named`: all its tasks have ids of their own, since nobody sees those that they would get."""
        kind = self._dice.choice(["task", "chain", "chain", "group", "chord", "chord"]) if depth else "task"
        match kind:
            case "chain":
                return self._chain(depth - 1, named)
            case "group":
                return self._group(depth - 1, named)
            case "chord":
                return self._chord(depth - 1, named)
            case _:
                return self._task(depth, named)

    def _task(self, depth: int, named: bool) -> Task:
        dice, label = self._dice, f"t{next(self._numbers)}"
        act: Act = dice.choice(self._acts) if self._acts and dice.random() < self._trouble else "succeed"
        inner: Tree | None = None
        if act == "revoke" and named:  # by its label, which isn't its id where it takes another's place
            act = "expire"
        if act == "replace":
            inner = self.tree(min(depth, 2), named=True)
        elif act == "grow":
            inner = Task(f"t{next(self._numbers)}", dice.choice(["succeed", "succeed", "fail"]), named=True)
        links: list[Callback] = []
        while dice.random() < self._linking / (1 + named):
            # One that gets its id from a worker must run, or nobody would know it.
            unnamed = Task(f"t{next(self._numbers)}", dice.choice(["succeed", "fail"]))
            links.append(Callback(self.tree(min(depth, 1), named=True) if dice.random() < 0.7 else unnamed))
        return Task(
            label,
            act,
            inner,
            named or dice.random() < 0.2,
            dice.random() < 0.1,
            links=tuple(links),
            errbacks=self._errbacks(),
        )

    def _chain(self, depth: int, named: bool) -> Chain:
        steps = [self._step(depth, named) for _ in range(self._dice.randint(1, 3))]
        steps.append(self.tree(depth, named=named))
        chain = Chain(tuple(steps))
        links = self._callbacks() if _has_one_result(chain) else ()
        return Chain(tuple(steps), links=links, errbacks=self._errbacks())

    def _step(self, depth: int, named: bool) -> Tree:
        """Not the last one of its chain. A chain in a chain has no links: it is none any more when it is sent."""
        step = self.tree(depth, named=named)
        return Chain(step.steps) if isinstance(step, Chain) else step

    def _group(self, depth: int, named: bool) -> Group:
        """Of two at least: what Celery makes of a group of one depends on where it stands."""
        members = tuple(self.tree(depth, named=named) for _ in range(self._dice.randint(2, 3)))
        links = self._callbacks() if _has_one_result(members[0]) else ()
        return Group(members, f"g{next(self._numbers)}", links=links, errbacks=self._errbacks())

    def _chord(self, depth: int, named: bool) -> Chord:
        dice = self._dice
        members = tuple(self.tree(depth, named=named) for _ in range(dice.randint(1, 4)))
        body = self.tree(depth, named=named)
        collects = dice.random() < 0.4
        threshold = dice.choice([None, 1, 2, 0.5, 0.7]) if collects else None
        links = self._callbacks() if _has_one_result(body) else ()
        return Chord(members, body, collects, threshold, links=links, errbacks=self._errbacks())

    def _callbacks(self) -> tuple[Callback, ...]:
        """Of what isn't a task."""
        return (Callback(self._task(0, True)),) if self._dice.random() < self._linking else ()

    def _errbacks(self) -> tuple[Errback, ...]:
        found: list[Errback] = []
        while self._dice.random() < self._linking:
            found.append(Errback(f"e{next(self._numbers)}", self._dice.choice([TOLD_BY_CALL, TOLD_BY_MESSAGE])))
        return tuple(found)


def _has_one_result(tree: Tree) -> bool:
    """Of others each result would call what is linked."""
    match tree:
        case Task():
            return True
        case Chain():
            return _has_one_result(tree.steps[-1])
        case Group():
            return False
        case Chord():
            return _has_one_result(tree.body)
