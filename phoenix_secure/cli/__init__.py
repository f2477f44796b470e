"""The command line: the only place that prints."""

from phoenix_secure.cli.app import main

__all__ = ["main"]
