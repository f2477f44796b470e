"""Pages of the site that follow from the code: they can't go stale.

MkDocs calls ``on_files``; nothing is written into ``docs/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

import phoenix_secure
from phoenix_secure import errors
from phoenix_secure.cli.app import app
from phoenix_secure.config import RunConfig

_ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "changes.md": _changes(),
        "reference/command-line.md": command_line_page(),
        "reference/settings.md": settings_page(),
        "reference/python.md": python_page(),
        "reference/errors.md": errors_page(),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links that hold in the repository, where the site has the page elsewhere."""
    return markdown.replace("](../CHANGELOG.md", "](changes.md")


def _changes() -> str:
    text = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return text.replace("](docs/", "](")


def command_line_page() -> str:
    """Every command with its arguments and options, as ``--help`` has them."""
    root = typer.main.get_command(app)
    parts = [
        "# Command line\n\nGenerated from the program: what `phoenix-secure COMMAND --help` says.\n"
    ]
    for name, command in _commands(root, "phoenix-secure"):
        context = click.Context(command, info_name=name)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        parts.append(f"## `{name}`\n\n{_prose(command.help)}\n\n```\n{usage}\n```\n")
        rows = [row for parameter in command.params for row in _parameter(parameter, context)]
        if rows:
            parts.append("| | | |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for each in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), each)
            if found is not None and not found.hidden:
                yield from _commands(found, f"{name} {each}")
    else:
        yield name, command


def _parameter(parameter: click.Parameter, context: click.Context) -> Iterator[str]:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return
    is_option = isinstance(parameter, click.Option)
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    shown = names if is_option else f"`{parameter.human_readable_name}`"
    default = parameter.default if is_option else None
    says = "" if default in (None, False, ()) or callable(default) else f"`{default}`"
    yield f"| {shown} | {_cell(getattr(parameter, 'help', '') or '')} | {says} |"


def settings_page() -> str:
    """Every setting with type, unit, bounds and default."""
    parts = [
        "# Settings\n\nGenerated from the schema. A YAML file holds any of them, by section; "
        "`section.name=value` on the command line goes before the file. In brackets the unit.\n"
    ]
    own = []
    for name, field in RunConfig.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            parts.append(f"## {name}\n\n{_prose(kind.__doc__)}\n\n{_settings(kind, f'{name}.')}\n")
        else:
            own.append(name)
    parts.insert(1, f"{_settings(RunConfig, '', only=own)}\n")
    return "\n".join(parts)


def _settings(model: type[BaseModel], prefix: str, only: list[str] | None = None) -> str:
    rows = ["| setting | values | default | |", "|---|---|---|---|"]
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        if only is not None and name not in only:
            continue
        values = _values(schema["properties"][name], schema.get("$defs", {}))
        default = field.get_default(call_default_factory=True)
        shown = "" if default is None else f"`{_plain(default)}`"
        rows.append(
            f"| `{prefix}{name}` | {_cell(values)} | {_cell(shown)} "
            f"| {_cell(field.description or '')} |"
        )
    return "\n".join(rows)


def _values(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _values(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in schema:
        return " or ".join(_values(each, definitions) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = {"null": "empty"}.get(schema.get("type", ""), str(schema.get("type", "")))
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[name]:g}" for name, sign in bounds.items() if name in schema]
    return " ".join([kind, ", ".join(limits)]).strip()


def python_page() -> str:
    """The public names, from their docstrings."""
    names = [name for name in phoenix_secure.__all__ if not name.startswith("_")]
    functions = [name for name in names if name.islower()]
    types = [name for name in names if not name.islower()]
    parts = [
        "# Python\n\n`import phoenix_secure as ps` loads nothing heavy before a name is used. "
        "The options are those of the [command line](command-line.md).\n"
    ]
    for title, group in (("Functions", functions), ("Values", types)):
        parts.append(f"## {title}\n")
        for name in group:
            parts.append(f"::: {_place(name)}\n")
    return "\n".join(parts)


def _place(name: str) -> str:
    found = getattr(phoenix_secure, name)
    if name == "audit":  # a callable package: see phoenix_secure/audit/__init__.py
        return "phoenix_secure.api.attacks.audit"
    return f"{found.__module__}.{found.__qualname__}"


def errors_page() -> str:
    """Every error class with its exit code."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PhoenixError)
    ]
    rows = "\n".join(
        f"| {kind.exit_code} | `{kind.__name__}` | {_cell(_prose(kind.__doc__))} |"
        for kind in sorted(kinds, key=lambda kind: kind.exit_code)
    )
    return (
        "# Errors and exit codes\n\nEvery error is one line that names the setting, the file or "
        "the site, and the fix. In Python they are subclasses of `PhoenixError`.\n\n"
        f"| exit code | class | |\n|---|---|---|\n| 0 | | done |\n{rows}\n"
        "| 3, 4 | | `audit`: leak found, inconclusive |\n"
        "| 5, 6, 7 | | `verify`: something failed, the report says FAIL, not all was checked |\n"
        "| 130 | | interrupted |\n"
    )


def _prose(text: str | None) -> str:
    return re.sub(r"\[/?bold\]", "", " ".join((text or "").split()))


def _plain(value: object) -> str:
    if isinstance(value, BaseModel):
        return "..."
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|").replace("<", "&lt;")
