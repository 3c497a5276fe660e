"""Compares what was sent, what ran and what is stored, and says what is wrong.

Made after Jepsen's total-queue, with outcome, time and overlap added. Only meant for after a full drain.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chaos.ledger import Record

#: Seconds without an END, while there is work and no fault, that count as silence.
MOST_SILENCE = 5.0

#: Faults that are told one by one.
_MOST_SHOWN = 3

#: Seconds over which a rate is measured.
_WINDOW = 1.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the checker is given."""

    records: Sequence[Record]
    #: Task id -> `state value` as the back end has it in the end.
    results: Mapping[str, str] = field(default_factory=dict[str, str])
    #: Tasks that are in the dead letters, and that therefore are not lost.
    dead: Collection[str] = ()
    #: Place -> how many deliveries are left there.
    stuck: Mapping[str, int] = field(default_factory=dict[str, int])
    #: Tasks whose messages were acknowledged before their results were stored, as a wire trace tells.
    unstored: Collection[str] = ()
    #: Tasks that store no result.
    ignored: Collection[str] = ()
    #: Of the workers that were asked to stop.
    exit_codes: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class FaultTimes:
    """One fault. Seconds; None: it never came to that."""

    what: str
    #: On until off.
    lasted: float
    #: On until a worker's first warning.
    detected: float | None
    #: Off until the first END, and until nine tenths of the rate before.
    first: float | None
    rate: float | None

    def __str__(self) -> str:
        times = {"T_detect": self.detected, "T_first": self.first, "T_rate": self.rate}
        told = " ".join(f"{name} {'never' if value is None else f'{value:.2f} s'}" for name, value in times.items())
        return f"{self.what} for {self.lasted:.1f} s: {told}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came out. `check` judges it."""

    sent: int
    lost: Collection[str]
    unexpected: Collection[str]
    #: Their sends failed, and they ran.
    recovered: Collection[str]
    #: Task id -> runs beyond the first and the retries.
    duplicates: Counter[str]
    overlap: Collection[str]
    wrong: Collection[str]
    unstored: Collection[str]
    #: Sends that neither returned nor raised.
    hanging: Collection[str]
    stuck: Mapping[str, int]
    exit_codes: Sequence[int]
    #: Seconds, outside of faults.
    silence: float
    #: Seconds that the slowest send took until it returned or raised.
    slowest_send: float
    faults: Sequence[FaultTimes]
    records: Sequence[Record] = field(repr=False)
    #: What is needed to understand it: folder, seed.
    context: str = ""

    def __str__(self) -> str:
        counts = f"{self.sent} sent: D {self.duplicates.total()} lost {len(self.lost)} wrong {len(self.wrong)}"
        more = f"recovered {len(self.recovered)} silence {self.silence:.2f} s slowest send {self.slowest_send:.2f} s"
        faults = self.faults if len(self.faults) <= _MOST_SHOWN else _worst(self.faults)
        return "; ".join([f"{counts} {more}", *map(str, faults)])

    def check(self, *, duplicates: int, overlap: bool = False, silence: float = MOST_SILENCE) -> None:
        """Raise AssertionError where the bounds that all rows share are not kept, or these are not.

        `overlap` allows two runs of a task at the same time: where tasks outlive their leases.
        """
        faults = self._complaints(duplicates=duplicates, overlap=overlap, silence=silence)
        if faults:
            raise AssertionError("\n".join([*faults, str(self), self.context]))

    def check_recovery(self, *, first: float = 5.0, rate: float | None = 10.0, detected: float | None = None) -> None:
        """Raise AssertionError where a fault was not over in these times: seconds for T_first, T_rate, T_detect."""
        bounds = {"T_first": first, "T_rate": rate, "T_detect": detected}
        for fault in self.faults:
            taken = {"T_first": fault.first, "T_rate": fault.rate, "T_detect": fault.detected}
            for name, bound in bounds.items():
                time = taken[name]
                if bound is not None and (time is None or time > bound):
                    raise AssertionError(f"{name} is not within {bound:g} s\n{self}\n{self.context}")

    def _complaints(self, *, duplicates: int, overlap: bool, silence: float) -> list[str]:
        groups: Mapping[str, Collection[str]] = {
            "lost": self.lost,
            "unexpected": self.unexpected,
            "wrong result": self.wrong,
            "acknowledged before stored": self.unstored,
            "sends without an end": self.hanging,
            "overlapping": () if overlap else self.overlap,
            f"duplicates beyond {duplicates}": self.duplicates if self.duplicates.total() > duplicates else (),
        }
        told = [f"{what}: {len(ids)}\n{self._histories(ids)}" for what, ids in groups.items() if ids]
        if any(self.stuck.values()):
            told.append(f"stuck: {dict(self.stuck)}")
        if any(self.exit_codes):
            told.append(f"exit codes: {self.exit_codes}")
        if self.silence > silence:
            told.append(f"silence: {self.silence:.1f} s")
        return told

    def _histories(self, ids: Iterable[str], *, most: int = 5) -> str:
        """What the ledger has of these tasks, the first few."""
        shown = sorted(ids)[:most]
        start = self.records[0].monotonic if self.records else 0.0
        lines: list[str] = []
        for task_id in shown:
            own = [record for record in self.records if record.task_id == task_id]
            steps = [f"{r.monotonic - start:.3f} {r.kind} {r.detail} (pid {r.pid}, tag {r.tag})" for r in own]
            lines.append(f"  {task_id}\n    " + "\n    ".join(steps))
        return "\n".join(lines)


def examine(evidence: Evidence, *, context: str = "") -> Report:
    """Compare. The records are taken in the order of time."""
    records = sorted(evidence.records, key=lambda record: record.monotonic)
    by_kind: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_kind[record.kind].append(record)
    tried = {record.task_id: record for record in by_kind["TRY"]}
    accepted = {record.task_id for record in by_kind["ACK"]}
    refused = {record.task_id for record in by_kind["NACK"]} - accepted
    started = Counter(record.task_id for record in by_kind["START"])
    retried = Counter(record.task_id for record in by_kind["END"] if record.detail == "retry")
    checksums = {task_id: record.detail for task_id, record in tried.items()}
    succeeded = {record.task_id for record in by_kind["END"] if record.detail.startswith("success")}
    return Report(
        sent=len(tried),
        lost=accepted - succeeded - set(evidence.dead),
        unexpected={run.task_id for run in by_kind["START"] if checksums.get(run.task_id) != run.detail},
        recovered=refused & started.keys(),
        duplicates=started - retried - Counter(dict.fromkeys(started, 1)),
        overlap=_overlapping(records),
        wrong=_wrong(by_kind, evidence),
        unstored=set(evidence.unstored) - set(evidence.ignored),
        hanging=tried.keys() - accepted - refused,
        stuck=evidence.stuck,
        exit_codes=evidence.exit_codes,
        silence=_silence(records),
        slowest_send=_slowest_send(records),
        faults=list(_fault_times(records)),
        records=records,
        context=context,
    )


def _worst(faults: Sequence[FaultTimes]) -> list[FaultTimes]:
    """One that stands for all: the longest of each time."""

    def longest(name: str) -> float | None:
        return max((time for fault in faults if (time := getattr(fault, name)) is not None), default=None)

    lasted = max(fault.lasted for fault in faults)
    times = {name: longest(name) for name in ("detected", "first", "rate")}
    return [FaultTimes(what=f"{len(faults)} times {faults[0].what}, at worst", lasted=lasted, **times)]


def _wrong(by_kind: Mapping[str, Sequence[Record]], evidence: Evidence) -> set[str]:
    """Results that no run of the task returned, that are not the last word, or that changed after they were seen."""
    outcomes: defaultdict[str, list[str]] = defaultdict(list)
    for record in by_kind.get("END", ()):
        outcomes[record.task_id].append(record.detail)
    wrong: set[str] = set()
    for task_id, details in outcomes.items():
        values = {detail.partition(" ")[2] for detail in details if detail.startswith("success")}
        state, _, value = evidence.results.get(task_id, "PENDING ").partition(" ")
        if task_id in evidence.ignored or task_id in evidence.dead:
            continue
        if (values and (state != "SUCCESS" or value not in values)) or (not values and state == "SUCCESS"):
            wrong.add(task_id)
    seen = ((record.task_id, record.detail) for record in by_kind.get("STORED", ()))
    return wrong | {task_id for task_id, result in seen if evidence.results.get(task_id) != result}


def _overlapping(records: Iterable[Record]) -> set[str]:
    """Tasks that one process had begun and not ended when another began them, and that the first ended after that."""
    open_runs: defaultdict[str, dict[tuple[int, str], bool]] = defaultdict(dict)
    overlapping: set[str] = set()
    for record in records:
        runs, own = open_runs[record.task_id], (record.pid, record.tag)
        if record.kind == "START":
            for run in runs:
                runs[run] = True
            runs[own] = False
        elif record.kind == "END" and runs.pop(own, False):
            overlapping.add(record.task_id)
    return overlapping


def _silence(records: Iterable[Record]) -> float:
    """The longest time without an END, while something accepted had not ended and no fault was on."""
    waiting: set[str] = set()
    ended: set[str] = set()
    faults, longest, since = 0, 0.0, 0.0
    for record in records:
        if waiting and not faults:
            longest = max(longest, record.monotonic - since)
        match record.kind:
            case "ACK" if record.task_id not in ended:
                since = since if waiting else record.monotonic
                waiting.add(record.task_id)
            case "END":
                since = record.monotonic
                if record.detail.startswith("success"):
                    ended.add(record.task_id)
                    waiting.discard(record.task_id)
            case "FAULT":
                faults += 1 if record.detail.startswith("on ") else -1
                since = record.monotonic
            case _:
                pass
    return longest


def _slowest_send(records: Iterable[Record]) -> float:
    begun: dict[str, float] = {}
    slowest = 0.0
    for record in records:
        if record.kind == "TRY":
            begun[record.task_id] = record.monotonic
        elif record.kind in {"ACK", "NACK"} and record.task_id in begun:
            slowest = max(slowest, record.monotonic - begun.pop(record.task_id))
    return slowest


def _fault_times(records: Sequence[Record]) -> Iterator[FaultTimes]:
    ends = [record.monotonic for record in records if record.kind == "END"]
    logs = [record.monotonic for record in records if record.kind == "LOG"]
    faults = [record for record in records if record.kind == "FAULT"]
    for on in faults:
        if not on.detail.startswith("on "):
            continue
        what = on.detail.removeprefix("on ")
        off = next((r.monotonic for r in faults if r.monotonic > on.monotonic and r.detail == f"off {what}"), None)
        if off is None:
            continue
        before = [end for end in ends if end < on.monotonic]
        settled = before[len(before) // 2 :]  # without the start of the load
        rate = len(settled) / (on.monotonic - settled[0]) if settled else 0.0
        yield FaultTimes(
            what=what,
            lasted=off - on.monotonic,
            detected=_since(on.monotonic, logs),
            first=_since(off, ends),
            rate=_since(off, _moments_at(0.9 * rate, ends)),
        )


def _since(moment: float, others: Iterable[float]) -> float | None:
    return next((other - moment for other in others if other > moment), None)


def _moments_at(rate: float, ends: Sequence[float]) -> Iterator[float]:
    """The moments at which so many have ended within the last second."""
    wanted = max(1, round(rate * _WINDOW))
    for position in range(wanted - 1, len(ends)):
        if ends[position] - ends[position - wanted + 1] <= _WINDOW:
            yield ends[position]
