"""Every domain-separation label of the protocol, in one place.

Each hash, key derivation, signature and AEAD call starts with its own label, so that no output of
one use can be passed off as that of another (version and suite included). A change of meaning
needs a new version in the prefix, never a reuse of an old label.
"""

from typing import Final

__all__ = [
    "ADVERTISE_KEYS",
    "COMPLAINT",
    "CONSISTENCY",
    "CONTEXT",
    "GRAPH_ORDER",
    "INSECURE_ENTROPY",
    "KEY_DIRECTORY",
    "KEY_TRANSCRIPT",
    "MASKED_INPUT",
    "MASK_PAIR",
    "MASK_SELF",
    "MASK_X25519",
    "ROSTER",
    "ROUND_ANNOUNCEMENT",
    "ROUND_RESULT",
    "SEED_COMMITMENT",
    "SHARE_CHANNEL",
    "SHARE_COMMITMENT",
    "SHARE_DELIVERY",
    "SHARE_KEYS",
    "SHARE_SEAL",
    "SHARE_TRANSCRIPT",
    "SIGNATURE_QUORUM",
    "STOCHASTIC_ROUNDING",
    "SUITE",
    "SUM_DIGEST",
    "SURVIVOR_LIST",
    "TRANSCRIPT",
    "UNMASK",
]

# Names every primitive: two sides that would compute differently have different contexts.
SUITE: Final = b"FSA1/x25519/hkdf-sha256/aes256ctr/aes256gcm/ed25519/p256+297"

# Hashes.
ROSTER: Final = b"FSA1/roster"
CONTEXT: Final = b"FSA1/context"
KEY_TRANSCRIPT: Final = b"FSA1/h1"
SHARE_TRANSCRIPT: Final = b"FSA1/h2"
SUM_DIGEST: Final = b"FSA1/sum"
TRANSCRIPT: Final = b"FSA1/transcript"
SHARE_COMMITMENT: Final = b"FSA1/commit-share"
SEED_COMMITMENT: Final = b"FSA1/commit-seed"
GRAPH_ORDER: Final = b"FSA1/graph-order"

# Key derivations.
MASK_X25519: Final = b"FSA1/mask-x25519"
MASK_PAIR: Final = b"FSA1/mask-pair"
MASK_SELF: Final = b"FSA1/mask-self"
SHARE_CHANNEL: Final = b"FSA1/share-chan"
STOCHASTIC_ROUNDING: Final = b"FSA1/rounding"
INSECURE_ENTROPY: Final = b"FSA1/insecure-test-entropy"

# Authenticated encryption.
SHARE_SEAL: Final = b"FSA1/share-seal"

# Signed messages; the label is the type of the message.
ROUND_ANNOUNCEMENT: Final = b"FSA1/msg/r0-announcement"
ADVERTISE_KEYS: Final = b"FSA1/msg/r0-advertise-keys"
KEY_DIRECTORY: Final = b"FSA1/msg/r1-key-directory"
SHARE_KEYS: Final = b"FSA1/msg/r1-share-keys"
SHARE_DELIVERY: Final = b"FSA1/msg/r2-share-delivery"
MASKED_INPUT: Final = b"FSA1/msg/r2-masked-input"
COMPLAINT: Final = b"FSA1/msg/r2-complaint"
SURVIVOR_LIST: Final = b"FSA1/msg/r3-survivor-list"
CONSISTENCY: Final = b"FSA1/msg/r3-consistency"
SIGNATURE_QUORUM: Final = b"FSA1/msg/r4-signature-quorum"
UNMASK: Final = b"FSA1/msg/r4-unmask"
ROUND_RESULT: Final = b"FSA1/msg/r5-result"
