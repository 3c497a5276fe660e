"""Roles: credentials that another account or policy lends for a while."""

from __future__ import annotations

from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession

from .account import Account

__all__ = ["assume_role"]

# `Any` below: botocore has no types.


async def assume_role(session: Any, account: Account, region: str, *, timeout: float) -> None:
    """Let the session ask as `account.role`, which the account's own credentials borrow. They are renewed in time.

    Each call to STS may take `timeout` seconds. Raises botocore's errors; the renewals do so in the session's calls.
    """
    lender: Any = AioSession()  # asks as who we are, also when the lent credentials have run out
    config = AioConfig(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 2})

    async def credentials() -> dict[str, str]:
        async with lender.create_client(
            "sts",
            region_name=region,
            aws_access_key_id=account.access_key,
            aws_secret_access_key=account.secret_key,
            config=config,
        ) as sts:
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

    # botocore has no other door for credentials that renew themselves. Its own 15 minutes before the end are the whole
    # life of credentials that last as long as that: each request would renew them.
    renewing: Any = AioRefreshableCredentials
    session._credentials = renewing.create_from_metadata(
        await credentials(),
        credentials,
        "sts-assume-role",
        advisory_timeout=account.role_duration // 3,
        mandatory_timeout=account.role_duration // 6,
    )
