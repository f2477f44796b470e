"""Reads and writes YAML: the only module that does (an import contract keeps it so).

Plain scalars are those of the YAML 1.2 core schema. YAML 1.1, which PyYAML reads by itself, takes
``NO`` for false, ``010`` for eight and ``1:30`` for ninety. A key given twice is an error here:
PyYAML lets the last one win without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from phoenix_secure.errors import ConfigError

__all__ = ["dump_yaml", "parse_value", "parse_yaml", "read_yaml", "shorten"]

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_MAX_VALUES = 10_000
_MAX_DIGITS = 400
_MAX_SHOWN = 200  # characters of anything that a message repeats

_TAG = "tag:yaml.org,2002:"
# Source: YAML 1.2.2, section 10.3.2; the merge key is YAML 1.1's.
_PLAIN = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}


def shorten(value: object) -> str:
    """``value`` as Python shows it, in at most 200 characters."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


class _YamlError(Exception):
    """What is wrong with a text, in one line."""


class _Loader(yaml.SafeLoader):
    """Composes nodes; values are built from them below, without PyYAML's constructors."""

    # PyYAML's own way of telling a class which scalars it resolves.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, tuple[int, int]] = {}  # node -> values in it, levels below it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, counted with everything that its aliases stand for: ten lines can stand for
        millions of values."""
        if self._depth == _MAX_DEPTH:
            raise _YamlError(f"is nested more than {_MAX_DEPTH} levels deep")
        is_alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if id(node) not in self._sizes:
            if is_alias:
                raise _YamlError(f"has an alias inside its own anchor in line {_line(node)}")
            below = [self._sizes[id(child)] for child in _children(node)]
            size = 1 + sum(values for values, _ in below)
            self._sizes[id(node)] = size, 1 + max((levels for _, levels in below), default=0)
        size, levels = self._sizes[id(node)]
        if size > _MAX_VALUES or levels > _MAX_DEPTH:
            raise _YamlError(
                f"holds more than {_MAX_VALUES} values or {_MAX_DEPTH} levels (each alias *name "
                "stands for all that its anchor holds)"
            )
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would take for something else than text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: list(found) for first, found in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


for _name, (_pattern, _first) in _PLAIN.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            _TAG + _name, re.compile(rf"(?:{_pattern})\Z"), [c.strip("\0") for c in _first]
        )


def read_yaml(path: Path) -> Any:
    """The value of the YAML file ``path``; None for an empty one.

    Raises:     FileNotFoundError; ConfigError as ``parse_yaml``.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror}): give a YAML file") from error
    return parse_yaml(content, name=str(path))


def parse_yaml(content: bytes | str, *, name: str) -> Any:
    """The value of a YAML document: null, booleans, numbers, text, lists, and mappings of them.

    name        of the file, for messages

    Guarantee:  no key is lost: one that is given twice, at any depth, also through a merge key
                ``<<``, is an error. Time and memory are bounded by the size of the text.
    Raises:     ConfigError on one line, naming the file and the lines.
    """
    try:
        if len(content) > _MAX_BYTES:
            raise _YamlError("is longer than 1 MiB")
        try:
            text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        except UnicodeDecodeError as error:
            raise ConfigError(f"cannot read {name} as text: give a YAML file in UTF-8") from error
        node = _compose(text)
        return None if node is None else _value(node, ())
    except _YamlError as fault:
        raise ConfigError(f"{name} {fault}") from fault


def parse_value(text: str, *, name: str) -> Any:
    """A value of the command line, as YAML; what follows a ``#`` is part of it and no comment.

    Raises:     ConfigError naming ``name``.
    """
    try:
        node = _compose(text)
        if node is None:
            return text if text.strip() else None
        if _has_comment(text):
            if isinstance(node, yaml.ScalarNode) and node.style is None:
                return text.strip()
            raise _YamlError("is no single value: put what holds a # in quotes")
        return _value(node, ())
    except _YamlError as fault:
        raise ConfigError(f"{name}: the value {fault}") from fault


def dump_yaml(
    value: Any, *, one_line: bool = False, sort_keys: bool = False, allow_unicode: bool = False
) -> str:
    """``value`` as YAML that reads back equal, here and in programs that read YAML 1.1."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=sort_keys,
        allow_unicode=allow_unicode,
        default_flow_style=one_line,
        width=10**6 if one_line else 80,
    )
    # YAML ends a bare scalar with three dots.
    return text.removesuffix("...\n").strip() if one_line else text


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = "" if mark is None else f" in line {mark.line + 1}"
        why = "" if problem is None else f" ({shorten(problem)[1:-1]})"
        if problem is not None and r"\t" in problem:
            why = " (a tab, and YAML indents with blanks)"
        raise _YamlError(f"is not valid YAML{line}{why}: fix the syntax there") from error


def _has_comment(text: str) -> bool:
    """Between two tokens stand blanks and comments alone."""
    tokens = pairwise(yaml.scan(text))
    return any("#" in text[a.end_mark.index : b.start_mark.index] for a, b in tokens)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _value(node: yaml.Node, path: tuple[str, ...]) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        return _mapping(node, path)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        return [_value(child, (*path, str(k))) for k, child in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode):
        raise _YamlError(
            f"is not valid YAML in line {_line(node)}: take the tag {node.tag[:50]} away"
        )
    return _scalar(node)


def _mapping(node: yaml.MappingNode, path: tuple[str, ...]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    lines: dict[Any, int] = {}
    for key, value in _pairs(node, path):
        if not isinstance(key, yaml.ScalarNode):
            raise _YamlError(f"is not valid YAML in line {_line(key)}: a key must be one word")
        name = _scalar(key)
        _refuse_second(name, lines, key, path)
        found[name] = _value(value, (*path, str(name)))
    return found


def _pairs(node: yaml.MappingNode, path: tuple[str, ...]) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Keys and values, those of merged mappings too."""
    merges: dict[Any, int] = {}
    for key, value in node.value:
        if key.tag != f"{_TAG}merge":
            yield key, value
            continue
        _refuse_second("<<", merges, key, path)
        for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if not isinstance(each, yaml.MappingNode):
                raise _YamlError(f"has << in line {_line(key)} without a mapping to merge")
            yield from _pairs(each, path)


def _refuse_second(name: Any, lines: dict[Any, int], key: yaml.Node, path: tuple[str, ...]) -> None:
    line = _line(key)
    if name in lines:
        where = f"in line {line}" if lines[name] == line else f"in lines {lines[name]} and {line}"
        full = shorten(".".join([*path, str(name)]))[1:-1]
        raise _YamlError(f"gives {full} twice, {where}: keep one of them")
    lines[name] = line


def _scalar(node: yaml.ScalarNode) -> Any:
    kind, text = node.tag.removeprefix(_TAG), node.value
    if kind in ("str", "merge"):
        return text
    pattern, _ = _PLAIN.get(kind, ("(?!)", ""))
    if not re.fullmatch(pattern, text) or len(text) > _MAX_DIGITS:
        raise _YamlError(
            f"is not valid YAML in line {_line(node)}: {shorten(text)} is no {kind[:50]}"
        )
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
