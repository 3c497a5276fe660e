"""What asyncq and Celery have in common of the ways to write a canvas: said once here, spelled by either library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

# `Any` below: signatures of either library, for which Celery has no types, and arguments of tasks.


class Language(Protocol):
    """One of the libraries, in the hands of one client."""

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, immutable: bool) -> Any: ...

    def chain(self, *steps: Any) -> Any: ...

    def group(self, members: Sequence[Any]) -> Any: ...

    def chord(self, header: Sequence[Any], body: Any) -> Any: ...

    def map(self, name: str, items: Sequence[Any]) -> Any: ...

    def starmap(self, name: str, items: Sequence[Any]) -> Any: ...

    def chunks(self, name: str, items: Sequence[Any], size: int) -> Any: ...

    def document(self, signature: Any) -> dict[str, Any]:
        """A signature as it stands in a message."""
        ...


class Part:
    """A canvas, or a part of one. Each spelling of it is a new signature."""

    def __init__(self, spell: Callable[[Language], Any]) -> None:
        self.spell = spell

    def __or__(self, after: Part) -> Part:
        return Part(lambda language: self.spell(language) | after.spell(language))

    def link(self, callback: Part) -> Part:
        return self._with(lambda signature, language: signature.link(callback.spell(language)))

    def link_error(self, errback: Part) -> Part:
        return self._with(lambda signature, language: signature.link_error(errback.spell(language)))

    def on_error(self, errback: Part) -> Part:
        return Part(lambda language: self.spell(language).on_error(errback.spell(language)))

    def set(self, **options: Any) -> Part:
        return self._with(lambda signature, language: signature.set(**options))

    def stamp(self, **stamps: Any) -> Part:
        return self._with(lambda signature, language: signature.stamp(**stamps))

    def _with(self, change: Callable[[Any, Language], object]) -> Part:
        """The same, changed in place: what the libraries return of it differs."""

        def spell(language: Language) -> Any:
            signature = self.spell(language)
            change(signature, language)
            return signature

        return Part(spell)


class Task:
    """Makes calls of a task. A part among their arguments travels as a document."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Part:
        return self._call(args, kwargs, immutable=False)

    def si(self, *args: Any, **kwargs: Any) -> Part:
        return self._call(args, kwargs, immutable=True)

    def map(self, *items: Any) -> Part:
        return Part(lambda language: language.map(self._name, items))

    def starmap(self, *items: Any) -> Part:
        return Part(lambda language: language.starmap(self._name, items))

    def chunks(self, items: Sequence[Any], size: int) -> Part:
        return Part(lambda language: language.chunks(self._name, items, size))

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, immutable: bool) -> Part:
        def spell(language: Language) -> Any:
            sent = [language.document(each.spell(language)) if isinstance(each, Part) else each for each in args]
            return language.call(self._name, sent, kwargs, immutable=immutable)

        return Part(spell)


def chain(*steps: Part) -> Part:
    return Part(lambda language: language.chain(*(step.spell(language) for step in steps)))


def group(*members: Part) -> Part:
    return Part(lambda language: language.group([member.spell(language) for member in members]))


def chord(header: Sequence[Part], body: Part) -> Part:
    return Part(lambda language: language.chord([each.spell(language) for each in header], body.spell(language)))
