"""Secure aggregation that survives a malicious server: sans-I/O sessions for sites and server."""

from protocol.client import ClientSession, ClientStep
from protocol.counter import InMemoryRoundCounter, RoundCounter, SentInput
from protocol.errors import (
    AbortReason,
    LocalProtocolError,
    Misbehaviour,
    ProtocolError,
    RemoteProtocolError,
    SessionAborted,
)
from protocol.identity import SERVER, Identity
from protocol.policy import ClientPolicy
from protocol.proofs import Proof, is_proven, is_signed
from protocol.roster import Roster
from protocol.roster_chain import RosterChain, Succession
from protocol.roster_changes import ChangeKind, RosterChange
from protocol.server import ServerSession, ServerStep
from protocol.spec import RoundSpec

__all__ = [
    "SERVER",
    "AbortReason",
    "ChangeKind",
    "ClientPolicy",
    "ClientSession",
    "ClientStep",
    "Identity",
    "InMemoryRoundCounter",
    "LocalProtocolError",
    "Misbehaviour",
    "Proof",
    "ProtocolError",
    "RemoteProtocolError",
    "Roster",
    "RosterChain",
    "RosterChange",
    "RoundCounter",
    "RoundSpec",
    "SentInput",
    "ServerSession",
    "ServerStep",
    "SessionAborted",
    "Succession",
    "is_proven",
    "is_signed",
]
