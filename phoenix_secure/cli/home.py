"""``~`` in every path of the command line: shells expand it in front of a word alone."""

from __future__ import annotations

import os.path
from typing import Any

import click

__all__ = ["read_home"]

# Arguments that are a path or a name: text on the command line, a path where one lies there.
_PATHS_OR_NAMES = {"federation", "folder", "path", "reference"}


def read_home(command: click.Command) -> click.Command:
    """Let every path of ``command`` and its sub-commands begin with ``~``."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            read_home(each)
    for parameter in command.params:
        is_text = parameter.type is click.STRING and parameter.name in _PATHS_OR_NAMES
        if isinstance(parameter.type, click.Path) or is_text:
            parameter.type = _InHome(parameter.type)
    return command


class _InHome(click.ParamType[Any]):
    """A path or a text, once its ``~`` is expanded."""

    def __init__(self, inner: click.ParamType[Any]) -> None:
        self.inner, self.name = inner, inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.startswith("~"):
            value = os.path.expanduser(value)
            # Nobody has that home: a file of this very name, which nothing expands again.
            value = os.path.abspath(value) if value.startswith("~") else value
        return self.inner.convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self.inner.get_metavar(param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        return self.inner.shell_complete(ctx, param, incomplete)
