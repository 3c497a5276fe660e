"""Exceptions that tasks of both kinds raise."""

from __future__ import annotations


class OutOfStock(Exception):
    """Known to both sides: the asyncq app declares it, and a Celery client finds its module imported."""

    def __init__(self, item: str, left: int) -> None:
        super().__init__(item, left)
        self.item = item
        self.left = left


class Unheard(Exception):
    """Importable, and declared to nobody."""


class Catalogue:
    """Holds a class whose qualified name has a dot."""

    class Missing(LookupError):
        """A nested class."""


def unknown_class() -> type[Exception]:
    """A class that no other process could import."""
    return type("Strange", (Exception,), {"__module__": "warehouse.failures"})
