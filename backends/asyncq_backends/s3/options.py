"""Where results are: `s3://[KEY:SECRET@]BUCKET[/PREFIX]`, or `s3://` and Celery's `s3_bucket`, `s3_base_path`."""

from __future__ import annotations

from msgspec import Struct

from asyncq.driver import DriverConfig
from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.aws import Account, split_url

__all__ = ["BackendOptions", "read_config"]

_SETTING = "result_backend_transport_options"
_KNOWN = (
    "access_key_id",
    "base_path",
    "bucket",
    "endpoint_url",
    "global_keyprefix",
    "region",
    "secret_access_key",
)


class BackendOptions(Struct, frozen=True, kw_only=True):
    """How results lie in the bucket."""

    bucket: str
    #: Put before every key as it is.
    prefix: str = ""


def read_config(config: DriverConfig) -> tuple[Account, BackendOptions]:
    """Read URL and options. Raises ConfigurationError that names what is wrong."""
    unknown = config.options.keys() - set(_KNOWN)
    if unknown:
        raise ConfigurationError(
            f"{_SETTING}: unknown for S3: {', '.join(sorted(map(repr, unknown)))}; known are {', '.join(_KNOWN)}"
        )
    given: dict[str, str] = {}
    for name, value in config.options.items():
        if not isinstance(value, str):
            raise ConfigurationError(f"{_SETTING}[{name!r}]: must be text")
        given[name] = value
    parts = split_url(config.url)
    bucket = parts.host or given.get("bucket")
    if not bucket:
        raise ConfigurationError("s3:// needs a bucket: s3://bucket/prefix")
    folder = parts.path.strip("/")
    base = f"{folder}/" if folder else given.get("base_path", "")
    account = Account(
        service="s3",
        region=given.get("region"),
        endpoint_url=given.get("endpoint_url"),
        access_key=parts.user or given.get("access_key_id"),
        secret_key=parts.password or given.get("secret_access_key"),
    )
    return account, BackendOptions(bucket=bucket, prefix=base + _joined(given.get("global_keyprefix", "")))


def _joined(prefix: str) -> str:
    """Celery's `global_keyprefix`: an underscore is added, unless it ends in something like one."""
    return prefix if not prefix or prefix[-1] in ":_-." else f"{prefix}_"
