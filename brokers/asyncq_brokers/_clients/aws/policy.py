"""IAM: what a role must be allowed."""

from __future__ import annotations

from collections.abc import Iterable

from asyncq.driver import PolicyStatement

from .account import Account

__all__ = ["allow", "arn", "borrow", "partition"]

#: How regions begin that are not of AWS's public part.
_PARTITIONS = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eusc-": "aws-eusc",
}


def arn(account: Account, resource: str) -> str:
    """A resource of the account, whose number stands nowhere in its settings."""
    return f"arn:{partition(account.region)}:{account.service}:{account.region or '*'}:*:{resource}"


def partition(region: str | None) -> str:
    """The part of AWS that a region belongs to, as ARNs name it."""
    return next((name for prefix, name in _PARTITIONS.items() if (region or "").startswith(prefix)), "aws")


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
