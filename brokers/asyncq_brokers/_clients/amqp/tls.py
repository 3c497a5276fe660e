"""TLS as Celery's `broker_use_ssl` asks for it, and verified where that says nothing (amqp.md, section 10)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncq.errors import ConfigurationError

__all__ = ["tls_context"]

#: How far the server's certificate is checked.
_CERT_REQS: Mapping[object, ssl.VerifyMode] = {
    "CERT_REQUIRED": ssl.CERT_REQUIRED,
    "CERT_OPTIONAL": ssl.CERT_OPTIONAL,
    "CERT_NONE": ssl.CERT_NONE,
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
    ssl.CERT_REQUIRED: ssl.CERT_REQUIRED,
    ssl.CERT_OPTIONAL: ssl.CERT_OPTIONAL,
    ssl.CERT_NONE: ssl.CERT_NONE,
}

_FILES = ("ca_certs", "certfile", "keyfile")
_ARGUMENTS = frozenset(
    {*_FILES, "cert_reqs", "check_hostname", "server_hostname", "ciphers"}
    | {"tls_minimum_version", "tls_maximum_version", "ssl_version", "context"}
)

#: Of `context`, what Celery gives to `ssl.create_default_context`.
_CONTEXT_ARGUMENTS = frozenset({"cafile", "capath", "cadata", "check_hostname"})

#: The protocols that `ssl_version` may name, and the only version that each means; None: whatever is safe.
_PROTOCOLS: Mapping[object, ssl.TLSVersion | None] = {
    "PROTOCOL_TLS": None,
    "PROTOCOL_TLS_CLIENT": None,
    "PROTOCOL_TLSv1_2": ssl.TLSVersion.TLSv1_2,
    ssl.PROTOCOL_TLS: None,
    ssl.PROTOCOL_TLS_CLIENT: None,
    ssl.PROTOCOL_TLSv1_2: ssl.TLSVersion.TLSv1_2,
}


def tls_context(given: Mapping[str, Any]) -> tuple[ssl.SSLContext, str | None]:
    """A context, and the name that the certificate must have where it is not the host's.

    Raises ConfigurationError.
    """
    of_context: dict[str, Any] = dict(given.get("context") or {})  # Any: the user's own
    unknown = sorted((given.keys() - _ARGUMENTS) | (of_context.keys() - _CONTEXT_ARGUMENTS))
    if unknown:
        known = ", ".join(sorted(_ARGUMENTS))
        raise ConfigurationError(f"unknown TLS arguments for AMQP: {', '.join(unknown)}; known are {known}")
    try:
        verify = _CERT_REQS[given.get("cert_reqs", "required")]
    except (KeyError, TypeError):
        raise ConfigurationError("cert_reqs must be one of required, optional, none") from None
    # OpenSSL's complaints don't say which.
    missing = [f"{name}={given[name]}" for name in _FILES if given.get(name) and not Path(given[name]).is_file()]
    if missing:
        raise ConfigurationError(f"TLS for AMQP: no such file: {', '.join(missing)}")
    check = given.get("check_hostname", of_context.get("check_hostname", True))
    if isinstance(check, str):
        check = check.lower() not in {"0", "f", "false", "n", "no"}
    try:
        context = ssl.create_default_context(
            cafile=of_context.get("cafile", given.get("ca_certs")),
            capath=of_context.get("capath"),
            cadata=of_context.get("cadata"),
        )
        version = _version(given.get("ssl_version"))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if given.get("certfile"):
            context.load_cert_chain(given["certfile"], given.get("keyfile"))
        if given.get("ciphers"):
            context.set_ciphers(given["ciphers"])
        for bound in ("minimum_version", "maximum_version"):
            if given.get(f"tls_{bound}") is not None:
                setattr(context, bound, given[f"tls_{bound}"])
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"TLS for AMQP: {error}") from error
    context.check_hostname = bool(check) and verify is not ssl.CERT_NONE
    context.verify_mode = verify
    return context, given.get("server_hostname")


def _version(protocol: object) -> ssl.TLSVersion | None:
    if protocol is None:
        return None
    try:
        return _PROTOCOLS[protocol]
    except (KeyError, TypeError):
        known = ", ".join(name for name in _PROTOCOLS if isinstance(name, str))
        raise ConfigurationError(f"ssl_version must be one of {known}") from None
