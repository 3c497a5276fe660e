"""Where an app's settings come from.

Strongest first: the constructor, `ASYNCQ_<NAME>`, `CELERY_BROKER_URL` and `CELERY_RESULT_BACKEND`,
`config_from_object`, `REDIS_URL`, the defaults. Environment beats file, as with Celery: a config file with production's
URL in it must not win over staging's environment.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import pydantic
from pydantic_settings import EnvSettingsSource, SettingsError

from asyncq._drivers import EMBEDDED_SCHEMES, scheme_of
from asyncq._settings import CELERY_NAMES, Settings
from asyncq.errors import ConfigurationError

__all__ = ["load_settings"]

# `Any` below: values are unchecked until `Settings` is made of them.

#: Elsewhere None says "not given".
_NONE_MEANS_SOMETHING = frozenset({"result_expires", "result_failure_expires", "result_chord_join_timeout"})

#: Celery's words for "keep no results".
_NO_BACKEND = ("disabled", "disabled://")


class _Given(NamedTuple):
    """A value, and where it stood, in the user's words."""

    value: Any
    where: str


def load_settings(constructor: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> Settings:
    """Lay constructor, environment, config and defaults over each other.

    `constructor` may use asyncq's names or Celery's new ones, `config` holds asyncq's.
    Raises TypeError for a name that is no setting, or that is given twice under two names; ConfigurationError for a
    value that won't do.
    """
    given = _from_config(config or {}) | _from_environment() | _from_constructor(constructor)
    redis_url = os.environ.get("REDIS_URL")
    if redis_url and "broker" not in given:
        given["broker"] = _Given(redis_url, "environment variable REDIS_URL")
        given.setdefault("backend", _Given(redis_url, "environment variable REDIS_URL"))
    if "backend" not in given:
        # The embedded brokers carry the results as well; with any other, results are kept where one says so.
        broker = given["broker"].value if "broker" in given else Settings.model_fields["broker"].default
        if isinstance(broker, str) and scheme_of(broker) in EMBEDDED_SCHEMES:
            given["backend"] = _Given(broker, "broker")
    elif given["backend"].value in _NO_BACKEND:
        del given["backend"]
    try:
        settings = Settings(**{name: each.value for name, each in given.items()})
    except pydantic.ValidationError as error:
        complaints = error.errors(include_url=False, include_context=False, include_input=False)
    else:
        settings._origins.update((name, each.where) for name, each in given.items())
        return settings
    # Raised out here, so that pydantic's error, which holds the values, is not its context.
    raise ConfigurationError("; ".join(dict.fromkeys(_explain(complaint, given) for complaint in complaints)))


def _from_config(config: Mapping[str, Any]) -> dict[str, _Given]:
    return {
        name: _Given(value, f"{CELERY_NAMES.get(name, name)} in the config object")
        for name, value in config.items()
        if value is not None or name in _NONE_MEANS_SOMETHING
    }


def _from_environment() -> dict[str, _Given]:
    found = {
        name: _Given(value, f"environment variable {variable}")
        for name, variable in (("broker", "CELERY_BROKER_URL"), ("backend", "CELERY_RESULT_BACKEND"))
        if (value := os.environ.get(variable))
    }
    try:
        own = EnvSettingsSource(Settings, env_ignore_empty=True)()
    except SettingsError as error:
        complaint = str(error)
    else:
        variables = {name: f"environment variable ASYNCQ_{name.upper()}" for name in own}
        return found | {name: _Given(value, variables[name]) for name, value in own.items()}
    raise ConfigurationError(f"an environment variable is no valid JSON: {complaint}")


def _from_constructor(constructor: Mapping[str, Any]) -> dict[str, _Given]:
    found: dict[str, _Given] = {}
    own_names = {celery: own for own, celery in CELERY_NAMES.items()}
    for keyword, value in constructor.items():
        name = own_names.get(keyword, keyword)
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(keyword, [*Settings.model_fields, *own_names], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"AsyncQ() has no setting {keyword!r}{hint}")
        if value is None and name not in _NONE_MEANS_SOMETHING:
            continue
        if name in found:
            raise TypeError(f"AsyncQ() got {name!r} and {CELERY_NAMES[name]!r}, which are the same setting: give one")
        found[name] = _Given(value, f"{keyword}=")
    return found


def _explain(complaint: Mapping[str, Any], given: Mapping[str, _Given]) -> str:
    name, *path = complaint["loc"]
    where = given[name].where if name in given else name
    positions = "".join(f"[{part}]" for part in path if isinstance(part, int))
    return f"{where}{positions}: {complaint['msg'].removeprefix('Value error, ')}"
