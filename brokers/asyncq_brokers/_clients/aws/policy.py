"""IAM: what a role must be allowed."""

from __future__ import annotations

from collections.abc import Iterable

from asyncq.driver import PolicyStatement

from .account import Account

__all__ = ["allow", "arn", "borrow"]


def arn(account: Account, resource: str) -> str:
    """A resource of the account, whose number stands nowhere in its settings."""
    return f"arn:aws:{account.service}:{account.region or '*'}:*:{resource}"


def borrow(account: Account) -> list[PolicyStatement]:
    """What the account's own credentials need where they take on a role; all else is the role's to be allowed."""
    return [] if account.role is None else [_statement("sts", ["AssumeRole"], [account.role])]


def allow(account: Account, actions: Iterable[str], resources: Iterable[str]) -> PolicyStatement:
    """A statement that allows some actions of the account's service."""
    return _statement(account.service, actions, resources)


def _statement(service: str, actions: Iterable[str], resources: Iterable[str]) -> PolicyStatement:
    return {
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in sorted(actions)],
        "Resource": sorted(resources),
    }
