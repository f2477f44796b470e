"""Fixtures for protocol tests: a whole federation in memory, and the second implementation."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def _load(name: str):
    """A helper beside this file, under a name that no other test folder can have."""
    full_name = f"phoenix_protocol_tests_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            full_name, Path(__file__).with_name(f"{name}.py")
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[full_name] = module
        spec.loader.exec_module(module)
    return sys.modules[full_name]


@pytest.fixture(scope="session")
def simulation():
    """The module ``simulation``: federations and rounds."""
    return _load("simulation")


@pytest.fixture(scope="session")
def oracles():
    """The module ``oracles``: the protocol once more, in plain Python integers."""
    return _load("oracles")


@pytest.fixture(scope="session")
def frozen():
    """The module ``frozen``: the recorded round and its replay."""
    return _load("frozen")


@pytest.fixture(scope="session")
def schedules():
    """The module ``schedules``: rounds on a hostile network."""
    return _load("schedules")


@pytest.fixture
def federation(simulation):
    """Makes a ``Federation``; keyword arguments change its parameters."""
    return simulation.Federation
