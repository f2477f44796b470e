"""Every domain-separation label of the protocol, in one place.

Each hash, key derivation, signature and AEAD call starts with its own label, so that no output of
one use can be passed off as that of another (version and suite included). A change of meaning
needs a new version in the prefix, never a reuse of an old label. FSA1 was the protocol of version
0.1.0, whose shares were not verified before they were used; labels that still start with it mean
what they meant then. The suite with lattice keys (``protocol.suite``) uses each label under the
prefix ``FSA2PQ`` and a few of its own.
"""

from typing import Final

__all__ = [
    "ADVERTISE_KEYS",
    "CHANNEL_SECRET",
    "COMPLAINT",
    "COMPLAINT_CHALLENGE",
    "COMPOSITE_SIGNATURE",
    "CONSISTENCY",
    "CONTEXT",
    "DEALING",
    "DEALING_CHALLENGE",
    "DEALT_ITEM",
    "DEALT_NODE",
    "EDWARDS_IDENTITY",
    "GRAPH_ORDER",
    "HYBRID_SUITE",
    "INSECURE_ENTROPY",
    "KEM_CHANNEL",
    "KEM_COMMITMENT",
    "KEM_MASK",
    "KEM_OFFER",
    "KEM_PAD",
    "KEY_DIRECTORY",
    "KEY_TRANSCRIPT",
    "LATTICE_IDENTITY",
    "MASKED_INPUT",
    "MASK_PAIR",
    "MASK_SCALAR",
    "MASK_SECRET",
    "MASK_SELF",
    "NEXT_ROSTER",
    "ROSTER",
    "ROSTER_CHAIN",
    "ROUND_ANNOUNCEMENT",
    "ROUND_RESULT",
    "SELF_SECRET",
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
SUITE: Final = b"FSA2/edwards25519/hkdf-sha256/aes256ctr/aes256gcm/ed25519/hash-vss"
HYBRID_SUITE: Final = (
    b"FSA2PQ/edwards25519+ml-kem-768/hkdf-sha256/aes256ctr/aes256gcm/ed25519+ml-dsa-65/hash-vss"
)

# Hashes.
ROSTER: Final = b"FSA1/roster"
NEXT_ROSTER: Final = b"FSA2/next-roster"
ROSTER_CHAIN: Final = b"FSA2/chain-of-rosters"
CONTEXT: Final = b"FSA2/context"
KEY_TRANSCRIPT: Final = b"FSA2/h1"
SHARE_TRANSCRIPT: Final = b"FSA2/h2"
SUM_DIGEST: Final = b"FSA2/sum"
TRANSCRIPT: Final = b"FSA2/transcript"
SHARE_COMMITMENT: Final = b"FSA2/commit-share"
DEALING_CHALLENGE: Final = b"FSA2/dealing-challenge"
DEALT_ITEM: Final = b"FSA2/dealt-item"
DEALT_NODE: Final = b"FSA2/dealt-node"
COMPLAINT_CHALLENGE: Final = b"FSA2/complaint-challenge"
GRAPH_ORDER: Final = b"FSA2/graph-order"

# Key derivations.
MASK_SECRET: Final = b"FSA2/mask-secret"
SELF_SECRET: Final = b"FSA2/self-secret"
CHANNEL_SECRET: Final = b"FSA2/channel-secret"
MASK_PAIR: Final = b"FSA2/mask-pair"
MASK_SELF: Final = b"FSA2/mask-self"
SHARE_CHANNEL: Final = b"FSA2/share-chan"
STOCHASTIC_ROUNDING: Final = b"FSA1/rounding"
INSECURE_ENTROPY: Final = b"FSA1/insecure-test-entropy"

# Authenticated encryption.
SHARE_SEAL: Final = b"FSA2/share-seal"

# Signed messages; the label is the type of the message.
ROUND_ANNOUNCEMENT: Final = b"FSA2/msg/r0-announcement"
ADVERTISE_KEYS: Final = b"FSA2/msg/r0-advertise-keys"
KEY_DIRECTORY: Final = b"FSA2/msg/r1-key-directory"
DEALING: Final = b"FSA2/msg/r1-dealing"
SHARE_KEYS: Final = b"FSA2/msg/r1-share-keys"
SHARE_DELIVERY: Final = b"FSA2/msg/r2-share-delivery"
MASKED_INPUT: Final = b"FSA2/msg/r2-masked-input"
COMPLAINT: Final = b"FSA2/msg/r2-complaint"
SURVIVOR_LIST: Final = b"FSA2/msg/r3-survivor-list"
CONSISTENCY: Final = b"FSA2/msg/r3-consistency"
SIGNATURE_QUORUM: Final = b"FSA2/msg/r4-signature-quorum"
UNMASK: Final = b"FSA2/msg/r4-unmask"
ROUND_RESULT: Final = b"FSA2/msg/r5-result"

# Keys, hashes and signatures that only the suite with lattice keys has.
EDWARDS_IDENTITY: Final = b"FSA2PQ/identity-ed25519"
LATTICE_IDENTITY: Final = b"FSA2PQ/identity-ml-dsa"
COMPOSITE_SIGNATURE: Final = b"FSA2PQ/signature"
MASK_SCALAR: Final = b"FSA2PQ/mask-scalar"
KEM_MASK: Final = b"FSA2PQ/kem-mask"
KEM_CHANNEL: Final = b"FSA2PQ/kem-channel"
KEM_OFFER: Final = b"FSA2PQ/kem-offer"
KEM_PAD: Final = b"FSA2PQ/kem-pad"
KEM_COMMITMENT: Final = b"FSA2PQ/kem-commitment"
