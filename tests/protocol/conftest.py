"""Fixtures for protocol tests: a whole federation in memory, and the second implementation."""

from __future__ import annotations

from types import ModuleType

import pytest

import frozen_round
import hostile_schedules
import protocol_liars
import protocol_oracles
import protocol_simulation


@pytest.fixture(scope="session")
def liars() -> ModuleType:
    """The module ``protocol_liars``: dishonest dealings and complaints."""
    return protocol_liars


@pytest.fixture(scope="session")
def simulation() -> ModuleType:
    """The module ``protocol_simulation``: federations and rounds."""
    return protocol_simulation


@pytest.fixture(scope="session")
def oracles() -> ModuleType:
    """The module ``protocol_oracles``: the protocol once more, in plain Python integers."""
    return protocol_oracles


@pytest.fixture(scope="session")
def frozen() -> ModuleType:
    """The module ``frozen_round``: the recorded round and its replay."""
    return frozen_round


@pytest.fixture(scope="session")
def schedules() -> ModuleType:
    """The module ``hostile_schedules``: rounds on a hostile network."""
    return hostile_schedules


@pytest.fixture
def federation() -> type[protocol_simulation.Federation]:
    """Makes a ``Federation``; keyword arguments change its parameters."""
    return protocol_simulation.Federation
