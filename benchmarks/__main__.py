"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path

from . import __doc__ as description
from .canvas import a_core_apart, take_canvas_turn
from .contenders import CANVAS_CONTENDERS, CONTENDERS
from .measuring import Figures, take_turn
from .report import facts, medians, notes, table
from .servers import KINDS, running


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=description)
    parser.add_argument("what", nargs="?", choices=("tasks", "canvas"), default="tasks", help="(default: tasks)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default: 3)")
    parser.add_argument("--size", type=float, default=1.0, help="multiplies the number of calls (default: 1)")
    parser.add_argument("--on", choices=KINDS, default=KINDS[0], help=f"the server (default: {KINDS[0]})")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contenders that take part (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every turn's figures there")
    arguments = parser.parse_args()
    canvas = arguments.what == "canvas"
    if canvas and arguments.on != "redis":
        parser.error("canvas: on Redis alone, where Celery's chords and asyncq's join in the same way")
    known = CANVAS_CONTENDERS if canvas else CONTENDERS[arguments.on]
    contenders = [each for each in known if arguments.only is None or each.name in arguments.only]
    if not contenders:
        parser.error(f"--only: there are {', '.join(each.name for each in known)}")
    turns: dict[str, list[Figures]] = {each.name: [] for each in contenders}
    with a_core_apart() if canvas else nullcontext() as cores, running(arguments.on) as server:
        machine = facts(server)
        for number in range(1, arguments.rounds + 1):
            for contender in contenders:
                print(f"round {number} of {arguments.rounds}: {contender.name} …", file=sys.stderr, flush=True)
                if canvas:
                    figures = take_canvas_turn(contender, server, cores, size=arguments.size)
                else:
                    figures = take_turn(contender, server, size=arguments.size)
                turns[contender.name].append(figures)
    print(table({name: medians(figures) for name, figures in turns.items()}))
    print(f"\nMedians of {arguments.rounds} rounds; in brackets the multiple of the first column. Log level WARNING.\n")
    print(notes(contenders))
    print("\n" + "\n".join(f"{name}: {value}" for name, value in machine.items()))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine, "turns": turns}, indent=2) + "\n")


if __name__ == "__main__":
    main()
