"""Answers to options and commands that other tools have, and this command line has not."""

from __future__ import annotations

from collections.abc import Sequence

import click

__all__ = ["answer_to"]

_OPTIONS = {
    "config": "the settings file stands without an option: phoenix-secure run FILE",
    "file": "the settings file stands without an option: phoenix-secure run FILE",
    "logdir": "the folder of all results is --run-dir",
    "out": "the folder of all results is --run-dir",
    "outdir": "the folder of all results is --run-dir",
    "output": "the folder of all results is --run-dir",
    "outputdir": "the folder of all results is --run-dir",
    "outputfolder": "the folder of all results is --run-dir",
    "resultsdir": "the folder of all results is --run-dir",
    "rundirectory": "the folder of all results is --run-dir",
}
_COMMANDS = {
    "attack": "audit",
    "continue": "resume",
    "diff": "compare RUN RUN, or report diff",
    "eval": "evaluate",
    "fit": "run",
    "generate": "sample",
    "init": "deploy init",
    "list": "runs list",
    "ls": "runs list",
    "simulate": "run",
    "start": "run",
    "status": "runs list, or sweep status",
    "test": "evaluate",
    "train": "run",
}


def answer_to(error: click.UsageError, *, arguments: Sequence[str]) -> str | None:
    """One line on what was meant by an unknown option or command; None where nobody can say.

    arguments   the whole command line, to repeat the value that an option was given
    """
    if isinstance(error, click.NoSuchOption):
        takes_settings = error.ctx is not None and any(
            parameter.name == "overrides" for parameter in error.ctx.command.params
        )
        return _setting(error.option_name, arguments) if takes_settings else None
    if error.ctx is not None and error.ctx.parent is None:
        meant = next((_COMMANDS[each] for each in arguments[:1] if each in _COMMANDS), None)
        return None if meant is None else f"that is: phoenix-secure {meant}"
    return None


def _setting(option: str, arguments: Sequence[str]) -> str:
    """What a setting that was given as an option looks like."""
    from phoenix_secure.config import RunConfig
    from phoenix_secure.config.meant import settings_called

    name = option.lstrip("-")
    if answer := _OPTIONS.get(name.lower().replace("-", "").replace("_", "")):
        return answer
    found = settings_called(name, of=RunConfig)[:3]
    if not found:
        return (
            "settings have no dashes, as federation.rounds=3; `phoenix-secure config explain` "
            "shows all"
        )
    value = _value(option, arguments)
    return f"settings have no dashes: {' or '.join(f'{each}={value}' for each in found)}"


def _value(option: str, arguments: Sequence[str]) -> str:
    for place, each in enumerate(arguments):
        if each.startswith(f"{option}="):
            return each.partition("=")[2]
        if each == option and place + 1 < len(arguments):
            after = arguments[place + 1]
            return "..." if after.startswith("--") or "=" in after else after
    return "..."
