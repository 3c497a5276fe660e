"""The canvases that both libraries must make the same of: nesting, failures at each place, links of all kinds.

None says what it comes to: that is what a Celery client and a Celery worker make of it, in the same test.
"""

from __future__ import annotations

from collections.abc import Mapping

from interop.canvas.language import Part, Task, chain, chord, group

add, mul, total, echo, fail = map(Task, ("add", "mul", "total", "echo", "fail"))

#: Tasks that steer: tried again, ended without a word, replaced, joined in their chord, sending on.
retry, ignore, replace, grow, spawn = map(Task, ("retry", "ignore", "replace", "grow", "spawn"))

#: Errbacks that are sent …
by_id, by_id_and_note, bound = map(Task, ("by_id", "by_id_and_note", "bound"))

#: … and those that are called.
at_once, at_once_and_note = map(Task, ("at_once", "at_once_and_note"))

two = (add(1, 1), add(2, 2))
four = (add(10), add(20), add(30), add(40))

_CHAINS: Mapping[str, Part] = {
    "task": add(1, 2),
    "chain": chain(add(1, 2), mul(3), echo()),
    "chain of one": chain(add(1, 2)),
    "chain of ten": chain(add(0, 0), *[add(1)] * 9),
    "chain in a chain": chain(add(1, 2), chain(mul(3), add(1)), echo("x")),
    "chains in a row": (add(1, 2) | mul(3)) | (add(1) | echo("x")),
    "immutable step": chain(add(1, 2), echo.si("x"), echo("y")),
    "step with arguments of its own": add(1, 2) | echo("x", key="y"),
    "step that is tried again": chain(add(1, 2), retry(), echo()),
    "step that ends without a word": chain(add(1, 2), ignore(), echo()),
}

_GROUPS: Mapping[str, Part] = {
    "group": group(*two, add(3, 3)),
    "group of one": group(add(1, 2)),
    "group of chains": group(add(1, 2) | mul(2), add(3, 4) | mul(2) | echo()),
    "group of groups": group(add(0, 1), group(add(0, 2), add(0, 3)), add(0, 4)),
    "group three deep": group(group(group(add(0, 1), add(0, 2)), add(0, 3)), add(0, 4)),
    "group of chords": group(chord(two, total()), chord(two, echo()), add(5, 5)),
    "group at a chain's end": add(1, 1) | group(add(10), add(20)),
    "group of one at a chain's end": add(1, 1) | group(add(10)),
    "group of chains at a chain's end": add(1, 1) | group(add(10) | mul(2), echo()),
    "group in a group at a chain's end": add(1, 1) | group(add(10), group(add(20), add(30))),
    "group that takes nothing at a chain's end": add(1, 1) | group(echo.si("x"), echo.si("y")),
}

_CHORDS: Mapping[str, Part] = {
    "chord": chord(two, total()),
    "chord of one": group(add(1, 1)) | total(),
    "chord of none": chord([], total()),
    "chord keeps its order": chord([echo(number) for number in range(8)], echo()),
    "chord whose body takes nothing": chord(two, echo.si("x")),
    "chord whose body has arguments": chord(two, echo("x", key="y")),
    "body is a chain": chord(two, chain(total(), mul(10), echo())),
    "body is a group": chord(two, group(total(), echo())),
    "body is a group of chains": chord(two, group(total() | mul(2), echo())),
    "body is a chord": chord(two, chord([total(), echo()], echo())),
    "body is a chain that ends in a group": chord(two, total() | group(add(10), add(20))),
    "body is a chain that ends in a chord": chord(two, chain(total(), group(add(10), add(20)), total())),
    "header of chains": chord([add(1, 1) | mul(5), add(2, 2) | mul(5)], echo()),
    "header with a chord": chord([chord(two, total()), add(3, 3)], echo()),
    "header of chords": chord([chord(two, total()), chord(two, echo())], echo()),
    "chords three deep": chord([chord([chord(two, total()), add(1, 1)], total()), add(1, 1)], total()),
    "header with a group": chord([add(0, 0), group(*two)], echo()),
    "header with a group of chains": chord([add(0, 0), group(add(1, 1) | mul(2), add(2, 2))], echo()),
    "header with a chain that ends in a group": chord([add(0, 0), add(1, 1) | group(add(10), add(20))], echo()),
    "header with a chain that ends in a chord": chord([add(0, 0), chain(add(1, 1), group(*four), total())], echo()),
    "header with a chord whose body is a chain": chord([add(0, 0), chord(two, total() | mul(2))], echo()),
    "header with a chord whose body is a group": chord([add(0, 0), chord(two, group(total(), total()))], echo()),
    "group in a chain": chain(add(1, 1), group(add(10), add(20)), total(), mul(2)),
    "group at a chain's beginning": chain(group(*two), total(), mul(2), echo()),
    "empty group in a chain": chain(add(1, 1), group(), echo(10)),
    "empty group at a chain's end": chain(add(1, 1), group()),
    "empty group at a chain's beginning": chain(group(), echo()),
    "chord in a chain": chain(add(1, 1), chord([add(10), add(20)], total()), mul(2)),
    "chord whose body is a chain in a chain": chain(add(1, 1), chord([add(10), add(20)], total() | mul(2)), echo()),
    "chord that something follows": chord(two, total()) | mul(2) | echo(),
    "chord that a group follows": chord(two, total()) | group(mul(2), echo()),
    "chord that a chord follows": chord(two, echo()) | chord([echo("x"), echo("y")], echo()),
    "two groups in a row": group(*two) | group(total(), echo()),
    "two groups in a row, and a task": group(*two) | group(total(), echo()) | echo(),
    "three groups in a row": group(*two) | group(echo("x"), echo("y")) | group(echo("z"), echo("u")),
    "groups and tasks in turns": chain(add(1, 1), group(*four), total(), group(*four), total()),
    "body is a group that something follows": chain(chord(two, group(total(), echo())), echo()),
}

_MAPS: Mapping[str, Part] = {
    "map": total.map([1, 2], [3, 4]),
    "starmap": add.starmap([1, 2], [3, 4]),
    "chunks": add.chunks([(1, 1), (2, 2), (3, 3)], 2),
    "map in a chain": chain(add(1, 1), total.map([1, 2], [3, 4]), total()),
    "starmap in a header": chord([add.starmap([1, 2]), add(3, 3)], echo()),
    "chunks in a chain": chain(add.chunks([(1, 1), (2, 2)], 1), echo()),
    "map in a group": group(total.map([1, 2]), add(3, 3)),
}

_FAILURES: Mapping[str, Part] = {
    "failure": fail(),
    "failure of a first step": chain(fail(), mul(3), echo()),
    "failure in the middle": chain(add(1, 1), fail(), mul(3), echo()),
    "failure of a last step": chain(add(1, 1), fail()),
    "failure of a member": group(add(1, 1), fail()),
    "failure in a member that is a chain": group(fail() | add(1), add(1, 1)),
    "failure in a header": chord([add(1, 1), fail()], total()),
    "failures in a header": chord([fail(1), add(1, 1), fail(2)], total()),
    "failure in a header's chain": chord([add(1, 1), chain(fail(), add(1), add(2))], total()),
    "failure at the end of a header's chain": chord([add(1, 1), add(1, 1) | fail()], total()),
    "failure in a header's chord": chord([chord([fail(), add(1, 1)], total()), add(3, 3)], total()),
    "failure of a body in a header": chord([chord([add(1, 1)], fail()), add(3, 3)], total()),
    "failure in a header's group": chord([add(0, 0), group(add(1, 1), fail())], echo()),
    "failure before a group in a header": chord([add(0, 0), fail() | group(add(1), add(2))], echo()),
    "failure of a body": chord(two, fail()),
    "failure of a body that something follows": chord(two, fail()) | mul(2) | echo(),
    "failure in a body's chain": chord(two, chain(total(), fail(), mul(2))),
    "failure in a body's group": chord(two, group(total(), fail())),
    "failure in a body's header": chord(two, chord([total(), fail()], echo())),
    "failure before a body's chain": chord([fail()], chain(total(), mul(2), mul(3))),
    "failure before a body's group": chord([fail()], group(total(), echo())),
    "failure before a body's chord": chord([fail()], chord([total(), echo()], echo())),
    "failure in a chain's group": chain(add(1, 1), group(fail(), add(20)), total(), mul(2)),
    "failure before a group": chain(fail(), group(add(10), add(20))),
    "failure before a chord": chain(fail(), group(add(10), add(20)), total(), mul(2)),
    "failure before a chord with a group for a body": chain(fail(), group(add(10), add(20)), group(total(), echo())),
    "failure of an item": fail.map(1, 2),
    "member that ends without a word": chord([add(1, 1), ignore()], total()),
    "member that is tried again": chord([add(1, 1), retry(2)], echo()),
}

_LINKS: Mapping[str, Part] = {
    "link": add(1, 2).link(mul(3)),
    "links": add(1, 2).link(mul(3)).link(echo("x")).link(echo.si("y")),
    "link to a chain": add(1, 2).link(mul(3) | echo()),
    "link to a group": add(1, 2).link(group(mul(3), echo())),
    "link to a chord": add(1, 2).link(chord([add(10), add(20)], total())),
    "link of a link": add(1, 2).link(mul(3).link(echo())),
    "link that fails": add(1, 2).link(fail().link_error(by_id())),
    "link of a step": chain(add(1, 2).link(echo("told")), mul(3)),
    "link of a chain": chain(add(1, 2), mul(3)).link(echo("told")),
    "link of a chain that ends in a group": (add(1, 2) | group(mul(3), echo())).link(echo("told")),
    "link of a group": group(*two).link(echo("told")),
    "link of a chord": chord(two, total()).link(echo("told")),
    "link of a header's member": chord([add(1, 1).link(echo("told")), add(2, 2)], total()),
    "link of a body": chord(two, total().link(echo("told"))),
    "link of a chain in a header": chord([chain(add(1, 1), mul(2)).link(echo("told")), add(2, 2)], total()),
    "link of what fails": fail().link(echo("told")),
}

_ERRBACKS: Mapping[str, Part] = {
    "errback that is sent": fail().link_error(by_id()),
    "errback that is called": fail().link_error(at_once()),
    "errback that is bound": fail().link_error(bound()),
    "errbacks of all kinds": fail().link_error(by_id()).link_error(at_once()).link_error(bound()),
    "errback that is sent with a note": fail().link_error(by_id_and_note("noted")),
    "errback that is called with a note": fail().link_error(at_once_and_note("noted")),
    "errback that takes nothing": fail().link_error(bound.si("x")),
    "errback that is a chain": fail().link_error(bound() | bound("x")),
    "errback that is a group": fail().link_error(group(bound("x"), bound("y"))),
    "errback that is a chord": fail().link_error(chord([bound("x"), bound("y")], bound())),
    "errback that fails": fail().link_error(fail().link_error(by_id())),
    "errback of what succeeds": add(1, 2).link_error(by_id()).link_error(at_once()),
    "errback of a first step": chain(fail().on_error(by_id()), add(1)),
    "errback of a later step": chain(fail(), add(1).on_error(by_id())),
    "errback of a chain whose first step fails": chain(fail(), add(1), add(2)).on_error(by_id()),
    "errback of a chain whose last step fails": chain(add(1, 1), add(2), fail()).on_error(at_once()),
    "errback of a chain in a chain": chain(add(1, 1), chain(fail(), add(1)).on_error(by_id()), add(2)),
    "errback of a group": group(fail(1), add(1, 1), fail(2)).on_error(by_id()),
    "errback of a group at a chain's end": (add(1, 1) | group(fail(), add(1))).on_error(at_once()),
    "errback of a member": group(fail(1).on_error(by_id()), fail(2)),
    "errback of a header's member": chord([fail().on_error(by_id()), add(1, 1)], total()),
    "errback of a body whose header fails": chord([fail(), add(1, 1)], total().on_error(at_once())),
    "errback of a body that fails": chord(two, fail().on_error(by_id())),
    "errback of a chord whose header fails": chord([fail(), add(1, 1)], total()).on_error(by_id()),
    "errback of a chord whose body fails": chord(two, fail()).on_error(at_once()),
    "errback of a chord with a chain for a body": chord([fail()], total() | mul(2)).on_error(by_id()),
    "errback of a body's chain whose header fails": chord([fail()], (total() | mul(2)).on_error(by_id())),
    "errback of a body's first step whose header fails": chord([fail()], total().on_error(by_id()) | mul(2)),
    "errback of a body's chain that fails": chord(two, chain(total(), fail(), mul(2)).on_error(by_id())),
    "errback of a body's group whose header fails": chord([fail()], group(total(), echo()).on_error(by_id())),
    "errback of a body's member whose header fails": chord([fail()], group(total().on_error(at_once()), echo())),
    "errback of a chain with a group in it": chain(add(1, 1), group(fail(), add(2)), total()).on_error(by_id()),
    "errback of a chord in a header": chord([chord([fail()], total()).on_error(by_id()), add(1, 1)], total()),
    "errback of a chord with a chord in its header": chord([chord([fail()], total()), add(1, 1)], total()).on_error(
        by_id()
    ),
    "errback of a map": fail.map(1).link_error(by_id()),
}

_RESULTS: Mapping[str, Part] = {
    "ignored result": add(1, 2).set(ignore_result=True).link(echo("told")),
    "ignored result of a step": chain(add(1, 2).set(ignore_result=True), mul(3)),
    "ignored result of a member": chord([add(1, 1).set(ignore_result=True), add(2, 2)], total()),
    "ignored failure of a member": chord([fail().set(ignore_result=True), add(2, 2)], total()),
    "ignored failure of a step": chain(fail().set(ignore_result=True).on_error(by_id()), mul(3)),
    "ignored result of a body": chord(two, total().set(ignore_result=True)) | echo(),
}

_STAMPS: Mapping[str, Part] = {
    "stamped task": add(1, 2).stamp(tenant="acme"),
    "stamped chain": chain(add(1, 2), mul(3)).stamp(tenant="acme"),
    "stamped group": group(*two).stamp(tenant="acme", ticket=["a", "b"]),
    "stamped chord": chord(two, total()).stamp(tenant="acme"),
    "stamped group in a chain": chain(add(1, 1), group(add(1), add(2)), total(), echo()).stamp(tenant="acme"),
    "stamped links": chain(add(1, 2).link(echo("told")), fail()).on_error(by_id()).stamp(tenant="acme"),
    "stamped step": chain(add(1, 2).stamp(tenant="acme"), mul(3)),
    "stamped member": chord([add(1, 1).stamp(tenant="acme"), add(2, 2)], total()),
    "stamps twice": add(1, 2).stamp(tenant="acme").stamp(ticket="a"),
    "stamped task that is tried again": retry().stamp(tenant="acme"),
}

_STEERED: Mapping[str, Part] = {
    "replaced by a task": replace(add(1, 2)),
    "replaced by a chain": replace(chain(add(1, 2), mul(3))),
    "replaced by a group": replace(group(*two)),
    "replaced by a chord": replace(chord(two, total())),
    "replaced by a chain that ends in a group": replace(add(1, 1) | group(add(10), add(20))),
    "replaced by what is replaced": replace(replace(add(1, 2))),
    "replaced by what fails": replace(fail()),
    "replaced by a chord that fails": replace(chord([fail()], total())),
    "replaced in a chain": chain(add(1, 1), replace.si(add(1, 2)), mul(3), echo()),
    "replaced in a chain by a group": chain(replace(group(*two)), total(), echo()),
    "replaced in a chain by what fails": chain(replace(chain(add(1, 1), fail())), mul(3), echo()),
    "replaced in a group": group(replace(add(1, 2)), replace(chain(add(3, 4), mul(2)))),
    "replaced in a header": chord([replace(add(1, 1)), add(2, 2)], total()),
    "replaced in a header by a chain": chord([replace(add(1, 1) | mul(2)), add(2, 2)], total()),
    "replaced in a header by a group": chord([replace(group(*two)), add(3, 3)], echo()),
    "replaced in a header by a chord": chord([replace(chord(two, total())), add(3, 3)], total()),
    "replaced in a header by what fails": chord([replace(fail()), add(3, 3)], total()),
    "replaced body": chord(two, replace.si(chain(add(1, 2), mul(3)))),
    "replaced with links": replace(add(1, 2).link(echo("its own"))).link(echo("told")),
    "replaced by a chain, with links": replace(chain(add(1, 2), mul(3))).link(echo("told")),
    "replaced by what fails, with links": replace(fail().link_error(at_once())).link_error(by_id()),
    "grown header": chord([grow(add(1, 0)), add(2, 2)], total()),
    "grown header of what fails": chord([grow(fail()), add(2, 2)], total()),
    "sends a chain": spawn(chain(add(1, 2), mul(3))),
    "sends a chord": spawn(chord(two, total())),
    "sends what fails": spawn(chain(fail(), add(1)).on_error(by_id())),
}

#: By name.
SHAPES: Mapping[str, Part] = {
    name: shape
    for shapes in (_CHAINS, _GROUPS, _CHORDS, _MAPS, _FAILURES, _LINKS, _ERRBACKS, _RESULTS, _STAMPS, _STEERED)
    for name, shape in shapes.items()
}
