"""Reads a Celery configuration: `celeryconfig.py`, a module, a mapping, an object (semantics.md, section 10)."""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
from collections.abc import Iterable, Mapping
from typing import Any, cast

from msgspec import Struct, field

from asyncq._celery_names import ALSO_READ, CELERY_SETTINGS
from asyncq._settings import CELERY_NAMES, Settings
from asyncq.errors import ConfigurationError

__all__ = ["CeleryConfig", "read_celery_config"]

# `Any` below: a setting's value is whatever the user wrote; `Settings` checks it.

#: Celery's new name -> asyncq's, of every setting that is honoured.
_HONOURED = {
    **{name: name for name in Settings.model_fields if name in CELERY_SETTINGS},
    **{celery: name for name, celery in CELERY_NAMES.items()},
}

#: Celery's old name -> the new one.
_OLD_NAMES = {setting.old_name or name.upper(): name for name, setting in CELERY_SETTINGS.items()}

#: Settings of one kind of backend -> its scheme, and the option of its driver.
_OF_BACKENDS: Mapping[str, tuple[str, str]] = {
    "dynamodb_endpoint_url": ("dynamodb", "endpoint_url"),
    **{
        f"s3_{name}": ("s3", name)
        for name in ("access_key_id", "secret_access_key", "bucket", "base_path", "region", "endpoint_url")
    },
}

#: Values of settings that are not honoured, which ask for what asyncq does in any case.
_AS_IT_IS_ANYWAY: Mapping[str, Any] = {
    "broker_connection_retry_on_startup": True,
    "task_reject_on_worker_lost": True,
    "worker_send_task_events": False,
}


class CeleryConfig(Struct):
    """What a configuration says."""

    #: By asyncq's names.
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    #: Settings of Celery's that asyncq doesn't honour, and that are not at Celery's default.
    ignored: list[str] = field(default_factory=list[str])
    #: Names that Celery doesn't know either -> the name that may be meant, or None.
    unknown: dict[str, str | None] = field(default_factory=dict[str, str | None])

    def warnings(self) -> Iterable[str]:
        """What the user should be told."""
        if self.ignored:
            yield f"Celery settings that asyncq does not honour: {', '.join(self.ignored)}"
        if self.unknown:
            names = [f"{name} (did you mean {near}?)" if near else name for name, near in self.unknown.items()]
            yield f"settings that neither Celery nor asyncq knows: {', '.join(names)}"


def read_celery_config(source: object, namespace: str | None = None) -> CeleryConfig:
    """Read settings under their new or their old names.

    `source` is a mapping, a module or another object, or the dotted name of one, which is imported. With
    `namespace="CELERY"` only names that begin with `CELERY_` count, and new names follow in capitals.
    Raises ConfigurationError when one setting is given two values, or when there is nothing of that name; what the
    user's module raises passes through.
    """
    if isinstance(source, str):
        source = _import(source)
    is_mapping = isinstance(source, Mapping)
    config = CeleryConfig()
    said_as: dict[str, str] = {}
    places: dict[str, Any] = {}
    for name, value in _items(source, namespace):
        setting = _setting_named(name, namespace)
        if setting is None:
            # In a module, names of the user's own stand beside the settings: only what looks like one is told.
            near = _nearest(name, namespace)
            if is_mapping or namespace or (near is not None and _is_plain(value)):
                config.unknown[name] = near
        elif setting in _HONOURED:
            own = _HONOURED[setting]
            if own in config.values and config.values[own] != value:
                raise ConfigurationError(f"{said_as[own]} and {name} are the same setting, with different values")
            said_as[own] = name
            config.values[own] = value
        elif setting in _OF_BACKENDS:
            places[setting] = value
        elif not _changes_nothing(setting, value):
            config.ignored.append(name)
    _place(places, config)
    if config.values.get("broker_use_ssl") is False:  # Celery's default, which a `rediss://` URL overrules
        del config.values["broker_use_ssl"]
    return config


def _place(places: Mapping[str, Any], config: CeleryConfig) -> None:
    """Turn settings of one kind of backend into options of its driver."""
    scheme = str(config.values.get("backend", "")).partition(":")[0]
    options = {
        _OF_BACKENDS[name][1]: value for name, value in places.items() if value and _OF_BACKENDS[name][0] == scheme
    }
    if options:
        given: Mapping[str, Any] = config.values.get("result_backend_transport_options", {})
        config.values["result_backend_transport_options"] = {**options, **given}


def _import(path: str) -> object:
    module, colon, attribute = path.partition(":")
    if colon:
        return _attribute(importlib.import_module(module), attribute, path)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        parent, _, attribute = path.rpartition(".")
        if error.name == path and parent:
            return _attribute(importlib.import_module(parent), attribute, path)
        if error.name == path:
            raise ConfigurationError(f"there is no module {path!r} to read the configuration from") from None
        raise


def _attribute(module: types.ModuleType, attribute: str, path: str) -> object:
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ConfigurationError(f"there is no {path!r} to read the configuration from") from None


def _items(source: object, namespace: str | None) -> Iterable[tuple[str, Any]]:
    if isinstance(source, Mapping):
        items = list(cast("Mapping[str, Any]", source).items())
    else:
        items = [(name, getattr(source, name)) for name in dir(source) if not name.startswith("_")]
    if namespace:
        prefix = f"{namespace.upper()}_"
        return [(name, value) for name, value in items if name.upper().startswith(prefix)]
    return items


def _setting_named(name: str, namespace: str | None) -> str | None:
    if namespace:
        new_name = name[len(namespace) + 1 :].lower()
        return new_name if _is_setting(new_name) else None
    return name if _is_setting(name) else _OLD_NAMES.get(name)


def _is_setting(name: str) -> bool:
    return name in CELERY_SETTINGS or name in ALSO_READ


def _nearest(name: str, namespace: str | None) -> str | None:
    if namespace:
        known: list[str] = [f"{namespace}_{each}".upper() for each in CELERY_SETTINGS]
    else:
        known = [*CELERY_SETTINGS, *_OLD_NAMES]
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.85)), None)


def _is_plain(value: object) -> bool:
    return not (inspect.ismodule(value) or inspect.isclass(value) or callable(value))


def _changes_nothing(setting: str, value: Any) -> bool:
    """The value asks for nothing beyond what Celery does by default, or what asyncq does anyway."""
    if setting in _AS_IT_IS_ANYWAY and value == _AS_IT_IS_ANYWAY[setting]:
        return True
    known = CELERY_SETTINGS.get(setting)
    return value is None or (known is not None and value == known.default)
