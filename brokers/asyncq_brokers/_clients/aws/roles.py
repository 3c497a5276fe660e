"""Roles: credentials that another account or policy lends for a while."""

from __future__ import annotations

from typing import Any

from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession

from .account import Account

__all__ = ["assume_role"]

# `Any` below: botocore has no types.


async def assume_role(session: Any, account: Account, region: str) -> None:
    """Let the session ask as `account.role`. The credentials are renewed in time."""
    lender: Any = AioSession()  # asks as who we are, also when the lent credentials have run out

    async def credentials() -> dict[str, str]:
        async with lender.create_client("sts", region_name=region) as sts:
            answer = await sts.assume_role(
                RoleArn=account.role, RoleSessionName="asyncq", DurationSeconds=account.role_duration
            )
        lent = answer["Credentials"]
        return {
            "access_key": lent["AccessKeyId"],
            "secret_key": lent["SecretAccessKey"],
            "token": lent["SessionToken"],
            "expiry_time": lent["Expiration"].isoformat(),
        }

    # botocore has no other door for credentials that renew themselves.
    renewing: Any = AioRefreshableCredentials
    session._credentials = renewing.create_from_metadata(await credentials(), credentials, "sts-assume-role")
