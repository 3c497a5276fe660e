"""The same message, more than once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chaos.ledger import Record
from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import Figures, Trial
from waiting import until


@on("redis", "sqlite")
async def test_f9_messages_are_published_again(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F9: 5 % of the messages are published twice under one id, half of them at once, half after their end.

    Nothing runs more than twice, and the result of the first success stays.
    """
    trial = Trial(tmp_path, scale, places)
    async with trial:
        await trial.endure()
        await trial.load.stop()
        doubled = [await trial.load.send() for _ in range(_part(trial))]
        for task_id in doubled:
            await trial.load.publish(task_id)
        ended = _ended(trial.ledger.entries("END"))[: _part(trial)]
        await until(lambda: trial.ledger.ids("STORED") >= set(ended))
        for task_id in ended:
            await trial.load.publish(task_id)
        report = await trial.finish()
    runs = trial.ledger.runs("START")
    figures(report, trial, published_again=len(doubled) + len(ended))
    report.check(duplicates=len(doubled) + len(ended), overlap=True)
    assert max(runs.values()) == 2
    assert {task_id for task_id, count in runs.items() if count == 2} == {*doubled, *ended}
    first = _first_successes(report.records)
    assert {r.task_id: r.detail for r in report.records if r.kind == "STORED" and r.task_id in ended} == {
        task_id: f"SUCCESS {first[task_id]}" for task_id in ended
    }


def _part(trial: Trial) -> int:
    return max(1, len(trial.load.sent) // 40)


def _ended(ends: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record.task_id for record in ends))


def _first_successes(records: Sequence[Record]) -> dict[str, str]:
    """Task id -> value of its first success."""
    first: dict[str, str] = {}
    for record in records:
        if record.kind == "END" and record.detail.startswith("success"):
            first.setdefault(record.task_id, record.detail.partition(" ")[2])
    return first
