"""The twelve messages of a round, and the signed envelope that each of them travels in."""

from protocol.messages.dealing import DealingHead, DealtShare, DeliveredShare
from protocol.messages.envelope import Envelope, seal
from protocol.messages.from_client import (
    AdvertiseKeys,
    Complaint,
    ConsistencyCheck,
    MaskedInput,
    RevealedShare,
    ShareKeys,
    Unmask,
    consistency_bytes,
)
from protocol.messages.from_server import (
    KeyDirectory,
    RoundAnnouncement,
    RoundResult,
    ShareDelivery,
    SignatureQuorum,
    SurvivorList,
)

__all__ = [
    "AdvertiseKeys",
    "Complaint",
    "ConsistencyCheck",
    "DealingHead",
    "DealtShare",
    "DeliveredShare",
    "Envelope",
    "KeyDirectory",
    "MaskedInput",
    "RevealedShare",
    "RoundAnnouncement",
    "RoundResult",
    "ShareDelivery",
    "ShareKeys",
    "SignatureQuorum",
    "SurvivorList",
    "Unmask",
    "consistency_bytes",
    "seal",
]
