"""The evidence of a run: a log that only grows, signed, and countersigned by the sites.

Knows neither torch nor Flower, so that whoever checks it needs neither.
"""

from phoenix_secure.evidence.events import Event
from phoenix_secure.evidence.head import Scope, TreeHead
from phoenix_secure.evidence.ledger import Entry, EvidenceError, Ledger, read_ledger

__all__ = ["Entry", "Event", "EvidenceError", "Ledger", "Scope", "TreeHead", "read_ledger"]
