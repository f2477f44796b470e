"""Reads YAML and ``section.key=value`` overrides into a :class:`RunConfig`; errors name the fix."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from phoenix_secure.config import RunConfig
from phoenix_secure.config.faults import explain
from phoenix_secure.config.meant import field_at
from phoenix_secure.config.paths import with_absolute_paths
from phoenix_secure.config.scalars import is_text
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.yaml_text import dump_yaml, parse_value, read_yaml, shorten

__all__ = [
    "dump_config",
    "find_config",
    "load_config",
    "load_written",
    "parse_config",
    "require_once",
    "shipped_configs",
]

_log = logging.getLogger(__name__)
_BASE, _PRIVATE = "base", "private"
# Sections that every version wrote.
_WRITTEN = frozenset(("data", "partition", "training", "federation", "privacy"))
_PROTECTS = ("privacy.", "secure_aggregation.")
_SUFFIXES = (".yaml", ".yml")
_MAX_BASES = 8
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
    if "=" in str(name):
        raise ConfigError(
            f"{name} is a setting, and settings stand behind the file that they change, such as "
            f"`demo {name}`: give a path, or one of {', '.join(shipped_configs())}"
        )
    raise ConfigError(
        f"no settings file {name}: {_nearest(path)}give a path, or one of "
        f"{', '.join(shipped_configs())}"
    )


def _nearest(path: Path) -> str:
    """A question after the file that was meant: with the other suffix, or spelt almost so."""
    for suffix in _SUFFIXES:
        if (other := path.with_suffix(suffix)).is_file() and other != path:
            return f"did you mean {other}? Or "
    stem = path.stem if path.suffix in _SUFFIXES else path.name
    close = difflib.get_close_matches(stem.lower(), shipped_configs(), n=1, cutoff=0.7)
    return f"did you mean {close[0]}? Or " if close else ""


def load_config(
    path: str | Path | None, overrides: Iterable[str] = (), *, as_written: bool = False
) -> RunConfig:
    """Read the YAML file ``path`` (or start from the defaults) and apply dotted ``overrides``.

    ``path`` may be the name of a shipped file, such as ``demo``. Paths in the settings are below
    the working directory and become absolute, unless they are to stay ``as_written``: those of a
    run folder, whose settings have a hash, and of a plan, which other machines read.

    ``base: NAME`` in a file or ``base=NAME`` lays its settings over another file's. A file with
    ``privacy.epsilon`` and no unit is laid over ``private``, which chooses all that a guarantee
    needs.

    >>> load_config(None, ["federation.rounds=3"]).federation.rounds
    3

    Raises:     ConfigError naming the setting and the fix.
    """
    values, rest = _with_base(path, tuple(overrides))
    config = parse_config(values, rest, source=str(path or "settings"))
    return config if as_written else with_absolute_paths(config, folder=Path.cwd())


def load_written(path: Path) -> RunConfig:
    """The settings in ``path``, as ``dump_config`` wrote them for a run: every section is there.

    Raises:     CheckpointError where it is not: what a crash or a full disk left of the file would
                mean the defaults, without privacy; ConfigError as ``load_config``.
    """
    found = set(_read_yaml(find_config(path)))
    missing = _WRITTEN - found
    # One written by hand may have few.
    if missing and (not found or "device" in found):
        raise CheckpointError(
            f"{path} is damaged: the section {min(missing)} is missing, and a run's settings hold "
            "all; restore it from a copy, or start again"
        )
    return load_config(path, as_written=True)


def require_once(overrides: Iterable[str]) -> None:
    """Refuse two values of one setting that protects somebody; of any other the last one counts,
    and the log says so.

    Raises:     ConfigError that names both.
    """
    given: dict[str, str] = {}
    for override in overrides:
        name, _, text = override.partition("=")
        before = given.setdefault(name.strip(), text)
        if before == text:
            continue
        told = f"{name.strip()} is given twice, as {shorten(before)} and {shorten(text)}"
        if name.strip().startswith(_PROTECTS):
            raise ConfigError(f"{told}: keep one of them")
        _log.warning("%s: the last one counts", told)
        given[name.strip()] = text


def parse_config(
    values: Mapping[str, Any], overrides: Iterable[str] = (), *, source: str = "settings"
) -> RunConfig:
    """Validate plain ``values`` after applying dotted ``overrides``."""
    tree: dict[str, Any] = {key: value for key, value in values.items()}
    overrides = tuple(overrides)
    for override in overrides:
        _apply(tree, override)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        blamed = _override_behind(error, overrides)
        if blamed is None:
            raise ConfigError(f"{source}: {explain(error, of=RunConfig)}") from error
        fault = explain(error, of=RunConfig, written=blamed.partition("=")[0].strip())
        raise ConfigError(f"override {shorten(blamed)}: {fault}") from error


def _override_behind(error: ValidationError, overrides: tuple[str, ...]) -> str | None:
    """The override that brought the first fault, not the file that it is laid over."""
    first = error.errors(include_url=False)[0]
    where = [str(part) for part in first["loc"]]
    for override in reversed(overrides):
        keys = override.partition("=")[0].strip().split(".")
        # A section that nobody knows is at fault before the setting below it is looked at.
        is_above = first["type"] == "extra_forbidden" and where == keys[: len(where)]
        if keys == where[: len(keys)] or is_above:
            return override
    return None


def dump_config(config: RunConfig) -> str:
    """The resolved settings as YAML; ``parse_config`` of it gives an equal ``config``."""
    return dump_yaml(config.model_dump(mode="json"))


def _read_yaml(path: Path) -> dict[str, Any]:
    tree = read_yaml(path)
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path} must hold `section:` and `key: value` lines, as in configs/")
    return tree


def _with_base(
    path: str | Path | None, overrides: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings of ``path`` over those of its base, and the overrides that are settings."""
    named = [each for each in overrides if each.partition("=")[0].strip() == _BASE]
    rest = tuple(each for each in overrides if each not in named)
    values, folder = {}, Path.cwd()
    if path:
        found = find_config(path)
        values, folder = _read_yaml(found), found.parent
    if named:
        values[_BASE] = named[-1].partition("=")[2].strip()
    elif path and _BASE not in values and _asks_for_epsilon_alone(values, rest):
        values[_BASE] = _PRIVATE
        _log.warning(
            "privacy.epsilon without privacy.unit: these settings stand on the shipped file %s "
            "(`base: %s` in the file says so; privacy.unit chooses by yourself)",
            _PRIVATE,
            _PRIVATE,
        )
    for _ in range(_MAX_BASES):
        if _BASE not in values:
            return values, rest
        name = values.pop(_BASE)
        if not isinstance(name, str):
            raise ConfigError(f"base {shorten(name)} must be the name of a settings file")
        beside = folder / name
        found = find_config(beside if beside.is_file() else name)
        lower, folder = _read_yaml(found), found.parent
        for key, value in values.items():
            _set(lower, [key], value)
        values = lower
    raise ConfigError(f"{path or 'settings'}: more than {_MAX_BASES} files stand on each other")


def _asks_for_epsilon_alone(values: Mapping[str, Any], overrides: tuple[str, ...]) -> bool:
    tree = dict(values)
    for override in overrides:
        if override.partition("=")[0].strip().startswith("privacy"):
            _apply(tree, override)
    privacy = tree.get("privacy")
    if not isinstance(privacy, dict) or privacy.get("epsilon") is None:
        return False
    return not {"unit", "noise_multiplier"} & set(privacy)


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one ``section.key=value`` in ``tree``; a value for a whole section adds to it."""
    name, separator, text = override.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(
            f"override {shorten(override)} must look like section.key=value, without blanks "
            "around ="
        )
    _set(tree, keys, _read_value(keys, text, name=f"override {shorten(override)}"))


def _read_value(keys: list[str], text: str, *, name: str) -> Any:
    """The value as YAML; for a setting that is text, the text as it stands.

    Quotes around a text are YAML's, and null is no text.
    """
    field = field_at(keys, of=RunConfig)
    if field is None or not is_text(field.annotation):
        return parse_value(text, name=name)
    if text.strip()[:1] in ("'", '"') or text.strip() in ("", "null"):
        return parse_value(text, name=name)
    return text


def _set(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    node = tree
    for key in keys[:-1]:
        child = node.get(key)
        if not (child is None or isinstance(child, dict)):
            raise ConfigError(f"{key} is {shorten(child)}, and no section that holds {keys[-1]}")
        # A copy, so that the caller's mapping is never changed.
        node[key] = dict(child or {})
        node = node[key]
    if isinstance(value, dict) and isinstance(node.get(keys[-1]), dict):
        for key, part in value.items():
            _set(node, [keys[-1], str(key)], part)
    else:
        node[keys[-1]] = value
