"""IAM: what a role must be allowed."""

from __future__ import annotations

from collections.abc import Iterable

from asyncq.driver import PolicyStatement

from .account import Account

__all__ = ["allow", "arn"]


def arn(account: Account, resource: str) -> str:
    """A resource of the account, whose number stands nowhere in its settings."""
    return f"arn:aws:{account.service}:{account.region or '*'}:*:{resource}"


def allow(account: Account, actions: Iterable[str], resources: Iterable[str]) -> PolicyStatement:
    """A statement that allows some actions of the account's service."""
    return {
        "Effect": "Allow",
        "Action": [f"{account.service}:{action}" for action in sorted(actions)],
        "Resource": sorted(resources),
    }
