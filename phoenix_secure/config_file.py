"""Reads YAML and ``section.key=value`` overrides into a :class:`RunConfig`; errors name the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError

__all__ = ["dump_config", "find_config", "load_config", "parse_config", "shipped_configs"]

_SHIPPED = Path(__file__).parent / "configs"


def shipped_configs() -> tuple[str, ...]:
    """The names of the settings files that come with this installation: ``demo``, ``dp``, ..."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


def find_config(name: str | Path) -> Path:
    """The settings file ``name``: a path, or the name of a shipped file, such as ``demo``.

    A file of the caller goes before a shipped one of the same name.

    Raises:     ConfigError naming the shipped files.
    """
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
    if str(name) in shipped_configs():
        return _SHIPPED / f"{name}.yaml"
    if path.is_dir():
        raise ConfigError(f"{name} is a folder: give a YAML file with the settings")
    raise ConfigError(
        f"no settings file {name}: give a path, or one of {', '.join(shipped_configs())}"
    )


def load_config(path: str | Path | None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read the YAML file ``path`` (or start from the defaults) and apply dotted ``overrides``.

    ``path`` may be the name of a shipped file, such as ``demo``.

    >>> load_config(None, ["federation.rounds=3"]).federation.rounds
    3

    Raises:     ConfigError naming the setting and the fix.
    """
    values = _read_yaml(find_config(path)) if path else {}
    return parse_config(values, overrides, source=str(path or "settings"))


def parse_config(
    values: Mapping[str, Any], overrides: Iterable[str] = (), *, source: str = "settings"
) -> RunConfig:
    """Validate plain ``values`` after applying dotted ``overrides``."""
    tree: dict[str, Any] = {key: value for key, value in values.items()}
    for override in overrides:
        _apply(tree, override)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(f"{source}: {_explain(first)}{more}") from error


def dump_config(config: RunConfig) -> str:
    """The resolved settings as YAML; ``parse_config`` of it gives an equal ``config``."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path} as text: give a YAML file") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise ConfigError(f"{path} is not valid YAML{line}: fix the syntax there") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path} must hold `section:` and `key: value` lines, as in configs/")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one ``section.key=value`` in ``tree``; the value is read as YAML."""
    name, separator, text = override.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"override {override!r} must look like section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error
    node = tree
    for key in keys[:-1]:
        child = node.get(key)
        # A copy, so that the caller's mapping is never changed.
        node[key] = dict(child) if isinstance(child, dict) else {}
        node = node[key]
    node[keys[-1]] = value


def _explain(error: ErrorDetails) -> str:
    """One line for a pydantic error: dotted name, what is wrong, the nearest valid name."""
    location = [part for part in error["loc"] if isinstance(part, str)]
    name = ".".join(location) or "settings"
    if error["type"] == "extra_forbidden":
        valid = _valid_names(location[:-1])
        close = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.4)
        prefix = ".".join(location[:-1])
        nearest = ".".join(filter(None, [prefix, close[0]])) if close else None
        hint = f"did you mean {nearest}?" if nearest else f"valid here: {', '.join(valid)}"
        return f"unknown setting {name}: {hint}"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict) else f" (got {error['input']!r})"
    return f"{name}: {message}{given}"


def _valid_names(location: list[str]) -> list[str]:
    """The names of the fields in the section that ``location`` leads to."""
    model: type[BaseModel] = RunConfig
    for key in location:
        field = model.model_fields.get(key)
        candidates = (field.annotation, *get_args(field.annotation)) if field else ()
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)
