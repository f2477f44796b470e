"""A site's steps up to R1: weigh the offer, advertise keys, take the input, deal shares."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from protocol import labels
from protocol.capsule import Capsule, Ends, PairSecret
from protocol.client_states import Announced, Idle, Offered, Ready, Shared, Site
from protocol.dealing import DealtSecrets, deal
from protocol.entropy import draw
from protocol.errors import LocalProtocolError, Misbehaviour, RemoteProtocolError
from protocol.events import Event, KeysAgreed, RoundOffered
from protocol.graph import Neighbourhoods
from protocol.group import POINT_SIZE
from protocol.identity import SERVER
from protocol.kem import encapsulate
from protocol.keys import PublicKeys, channel_key_from, key_transcript, secret_scalar
from protocol.masks import Words
from protocol.messages import (
    AdvertiseKeys,
    Envelope,
    KeyDirectory,
    RoundAnnouncement,
    ShareKeys,
    seal,
)
from protocol.offers import is_offered, offer_attachment
from protocol.own_keys import ChannelKeys, MaskKeys
from protocol.spec import RoundSpec
from protocol.transport import associated_data, seal_shares
from protocol.words import to_words, word_dtype

__all__ = [
    "ClientStep",
    "advertise_keys",
    "checked_vector",
    "consider_offer",
    "deal_shares",
    "read_directory",
    "take_input",
]

_SEED_SIZE = 32
_CHUNK = 1 << 16


class ClientStep(NamedTuple):
    """Bytes for the server (empty: nothing to send) and events for the driver."""

    outbound: bytes
    events: tuple[Event, ...]


def consider_offer(site: Site, state: Idle, envelope: Envelope) -> tuple[Offered, ClientStep]:
    """R0: hold the offered round against roster, policy, counter and the last transcript."""
    spec = RoundAnnouncement.decode(envelope.body, peer=SERVER).spec
    if envelope.context != spec.context:
        raise RemoteProtocolError(SERVER, Misbehaviour.FOREIGN_CONTEXT, "not the offer's own")
    site.policy.check(spec, own_id=site.identity.id, roster=site.roster)
    if site.roster.key(site.identity.id) != site.identity.public_key:
        raise LocalProtocolError("this site's key is not the one that the roster has for its id")
    if spec.round <= site.counter.last_signed_round():
        raise RemoteProtocolError(SERVER, Misbehaviour.ROUND_REPLAYED, f"round {spec.round}")
    if site.previous is not None and spec.previous != site.previous:
        raise RemoteProtocolError(
            SERVER, Misbehaviour.POLICY_REFUSED, "previous differs from the last result"
        )
    offered = Offered(spec=spec, context=spec.context)
    return offered, ClientStep(b"", (RoundOffered(spec=spec),))


def advertise_keys(
    site: Site, state: Offered, model: bytes | memoryview | Sequence[bytes | memoryview]
) -> tuple[Announced, ClientStep]:
    """R0: after the model's bytes proved to be the announced ones, draw seeds and show keys."""
    digest = hashlib.sha256()
    for part in model if isinstance(model, (list, tuple)) else [model]:
        if not isinstance(part, (bytes, bytearray, memoryview)):
            raise LocalProtocolError("model: expected the model's bytes")
        digest.update(part)
    if not hmac.compare_digest(digest.digest(), state.spec.model_hash):
        raise RemoteProtocolError(SERVER, Misbehaviour.WRONG_MODEL)
    seeds = [draw(site.entropy, _SEED_SIZE) for _ in range(3)]
    if len(set(seeds)) != 3:
        raise LocalProtocolError("the entropy source repeats itself: repair it before any round")
    suite, context = state.spec.suite, state.context
    mask_secret, self_secret = (
        secret_scalar(seed, context=context, label=suite.label(label))
        for seed, label in zip(seeds, (labels.MASK_SECRET, labels.SELF_SECRET), strict=False)
    )
    mask_pair = MaskKeys(mask_secret, suite=suite, context=context)
    channel_pair = ChannelKeys(
        seeds[2], suite=suite, context=context, me=site.identity.id, dealers=state.spec.cohort
    )
    body = AdvertiseKeys(mask_key=mask_pair.advertised, channel_key=channel_pair.advertised)
    outbound = seal(
        site.identity,
        label=AdvertiseKeys.LABEL,
        context=context,
        body=body.encode(),
        attachment=offer_attachment(channel_pair.offers),
    )
    envelope = Envelope.parse(outbound, peer=site.identity.id, max_size=len(outbound))
    announced = Announced(
        spec=state.spec,
        context=state.context,
        self_secret=self_secret,
        mask_pair=mask_pair,
        channel_pair=channel_pair,
        advertisement=envelope.without_attachment(outbound),
    )
    return announced, ClientStep(outbound, ())


def take_input(
    site: Site,
    state: Announced,
    words: npt.NDArray[Any],
    extra: Sequence[int],
    noise: npt.NDArray[np.int64] | None,
) -> tuple[Ready, ClientStep]:
    """Between R0 and R1: check the input against the announced bounds and keep it."""
    ready = Ready(
        spec=state.spec,
        context=state.context,
        self_secret=state.self_secret,
        mask_pair=state.mask_pair,
        channel_pair=state.channel_pair,
        advertisement=state.advertisement,
        vector=checked_vector(state.spec, words=words, extra=extra, noise=noise),
    )
    return ready, ClientStep(b"", ())


def checked_vector(
    spec: RoundSpec,
    *,
    words: npt.NDArray[Any],
    extra: Sequence[int],
    noise: npt.NDArray[np.int64] | None,
) -> tuple[Words, Words]:
    """Model words plus noise, and extra words, modulo 2^b; LocalProtocolError if out of bounds.

    int32 words that nobody can write to are kept as they are, all others are copied.
    """
    if not isinstance(words, np.ndarray) or words.dtype.kind != "i":
        raise LocalProtocolError("input: expected a signed integer array; encode it as fixed point")
    if words.shape != (spec.num_words,):
        raise LocalProtocolError(f"input: expected shape ({spec.num_words},), got {words.shape}")
    if _is_beyond(words, spec.input_bound):
        raise LocalProtocolError(
            f"input: a word is outside +-{spec.input_bound}; clip before encoding"
        )
    if not isinstance(extra, (list, tuple, np.ndarray)) or len(extra) != len(spec.extra_bounds):
        raise LocalProtocolError(
            f"extra: expected a list of {len(spec.extra_bounds)} integers, one per extra_bounds"
        )
    for place, (value, bound) in enumerate(zip(extra, spec.extra_bounds, strict=True)):
        if not isinstance(value, (int, np.integer)) or abs(int(value)) > bound:
            raise LocalProtocolError(f"extra[{place}]: expected an integer within +-{bound}")
    dtype = word_dtype(spec.word_bits)
    modulus = 1 << (8 * dtype.itemsize)
    last = np.array([int(value) % modulus for value in extra], dtype)
    if spec.noise_variance != 0:
        vector = np.empty(spec.num_words, dtype)
        checked = _checked_noise(noise, spec=spec)
        np.add(words, checked, out=vector, dtype=np.int64, casting="unsafe")
        return vector, last
    if noise is not None:
        raise LocalProtocolError("noise: this round's specification has none")
    is_ours = not words.flags.writeable and words.flags.c_contiguous and words.dtype == np.int32
    return to_words(words if is_ours else words.copy(), word_bits=spec.word_bits), last


def _is_beyond(words: npt.NDArray[Any], bound: int) -> bool:
    """Whether a word lies outside +-bound; in chunks, so that memory is read once."""
    chunks = (words[start : start + _CHUNK] for start in range(0, words.size, _CHUNK))
    return any(chunk.min() < -bound or chunk.max() > bound for chunk in chunks)


def _checked_noise(
    noise: npt.NDArray[np.int64] | None, *, spec: RoundSpec
) -> npt.NDArray[np.int64]:
    if noise is None:
        raise LocalProtocolError(
            "noise: this round's specification asks for it; training without it is not private"
        )
    if (
        not isinstance(noise, np.ndarray)
        or noise.dtype != np.int64
        or noise.shape != (spec.num_words,)
    ):
        raise LocalProtocolError(f"noise: expected int64 of shape ({spec.num_words},)")
    tail = spec.client_noise_tail
    if _is_beyond(noise, tail):
        raise LocalProtocolError(f"noise: a value beyond +-{tail} does not fit noise_variance")
    return noise


def read_directory(
    site: Site, *, spec: RoundSpec, context: bytes, directory: KeyDirectory, own: bytes
) -> dict[str, PublicKeys]:
    """R1: everybody's keys (U1) in order of id, if each is signed, sound and unlike all others.

    Raises:     RemoteProtocolError that names the server, which should have checked all this.
    """
    members: dict[str, PublicKeys] = {}
    cohort, suite, me = set(spec.cohort), spec.suite, site.identity.id
    last = ""
    offers = directory.offers or ((b"", b""),) * len(directory.advertisements)
    for advertisement, offer in zip(directory.advertisements, offers, strict=True):
        envelope = Envelope.parse(advertisement, peer=SERVER, max_size=len(advertisement))
        id = envelope.sender
        if id not in cohort or id <= last:
            raise RemoteProtocolError(SERVER, Misbehaviour.BAD_MEMBER_SET, "key directory")
        last = id
        if envelope.label != AdvertiseKeys.LABEL or envelope.context != context:
            raise RemoteProtocolError(SERVER, Misbehaviour.FOREIGN_CONTEXT, "key directory")
        if not envelope.is_signed_by(site.roster.key(id) or b""):
            raise RemoteProtocolError(SERVER, Misbehaviour.BAD_SIGNATURE, f"keys of {id}")
        if id == me and not hmac.compare_digest(advertisement, own):
            raise RemoteProtocolError(SERVER, Misbehaviour.OWN_ENTRY_CHANGED)
        keys = AdvertiseKeys.decode(envelope.body, peer=SERVER, suite=suite)
        found = PublicKeys(id=id, mask=keys.mask_key, channel=keys.channel_key, offer=offer[0])
        if suite.is_hybrid and not _is_offered(found, path=offer[1], me=me):
            raise RemoteProtocolError(SERVER, Misbehaviour.BAD_PUBLIC_KEY, f"offer of {id}")
        members[id] = found
    if me not in members:
        raise RemoteProtocolError(SERVER, Misbehaviour.OWN_ENTRY_CHANGED)
    if len(members) < spec.quorum:
        raise RemoteProtocolError(SERVER, Misbehaviour.BELOW_QUORUM, "key directory")
    keys_seen = [part for m in members.values() for part in m.parts]
    is_safe = all(m.is_safe(suite) for m in members.values())
    if len(set(keys_seen)) != len(keys_seen) or not is_safe:
        raise RemoteProtocolError(SERVER, Misbehaviour.BAD_PUBLIC_KEY, "key directory")
    return members


def _is_offered(member: PublicKeys, *, path: bytes, me: str) -> bool:
    """Whether ``member`` signed for the encapsulation key that the server says is for us."""
    if member.id == me:
        return (member.offer, path) == (b"", b"")
    return is_offered(member.offer, dealer=me, root=member.channel[POINT_SIZE:], path=path)


def deal_shares(site: Site, state: Ready, envelope: Envelope) -> tuple[Shared, ClientStep]:
    """R1: share both secrets among the holders, sealed for each, with a proof of the dealing."""
    spec, context, me = state.spec, state.context, site.identity.id
    directory = KeyDirectory.decode(
        envelope.body, peer=SERVER, max_members=len(spec.cohort), suite=spec.suite
    )
    members = read_directory(
        site, spec=spec, context=context, directory=directory, own=state.advertisement
    )
    h1 = key_transcript(list(members.values()), context=context)
    graph = Neighbourhoods(list(members), degree=spec.degree, h1=h1)
    holders = graph.holders(me)
    if len(holders) < spec.threshold:
        raise RemoteProtocolError(SERVER, Misbehaviour.BELOW_QUORUM, "neighbours")

    capsules, pair_secrets = _capsules(state, members=members, holders=holders, me=me, h1=h1)

    def seal_for(holder: str, shares: tuple[bytes, bytes], commitments: list[bytes]) -> bytes:
        if holder == me:
            return b""
        extra = None
        if spec.suite.is_hybrid:
            secret, ciphertext = encapsulate(members[holder].offer)
            extra = PairSecret(secret=secret, ciphertext=ciphertext)
        key = channel_key_from(
            state.channel_pair.exchange(members[holder].channel[:POINT_SIZE]),
            sender=members[me],
            receiver=members[holder],
            h1=h1,
            extra=extra,
        )
        associated = associated_data(
            h1=h1, sender=me, receiver=holder, commitments=commitments, suite=spec.suite
        )
        sealed = seal_shares(key, shares=shares, associated=associated, entropy=site.entropy)
        return sealed if extra is None else extra.ciphertext + sealed

    body, shares = deal(
        DealtSecrets(
            mask_key=state.mask_pair.shared,
            self_mask=state.self_secret,
            context=context,
            h1=h1,
            suite=spec.suite,
            capsules=capsules,
        ),
        dealer=site.identity,
        points={holder: spec.point(holder) for holder in holders},
        threshold=spec.threshold,
        seal_for=seal_for,
        entropy=site.entropy,
    )
    shared = Shared(
        spec=spec,
        context=context,
        h1=h1,
        members=members,
        graph=graph,
        self_secret=state.self_secret,
        mask_pair=state.mask_pair,
        channel_pair=state.channel_pair,
        own_shares=shares.get(me),
        pair_secrets=pair_secrets,
        vector=state.vector,
    )
    outbound = seal(site.identity, label=ShareKeys.LABEL, context=context, body=body.encode())
    return shared, ClientStep(outbound, (KeysAgreed(members=tuple(members)),))


def _capsules(
    state: Ready,
    *,
    members: Mapping[str, PublicKeys],
    holders: Iterable[str],
    me: str,
    h1: bytes,
) -> tuple[dict[str, bytes], dict[str, PairSecret]]:
    """In the hybrid suite a fresh pair secret for each holder with a higher id than ours."""
    capsules: dict[str, bytes] = {}
    secrets: dict[str, PairSecret] = {}
    if not state.spec.suite.is_hybrid:
        return capsules, secrets
    for holder in holders:
        if holder > me:
            capsule, secrets[holder] = Capsule.make(
                members[holder].mask[POINT_SIZE:],
                mask_secret=state.mask_pair.shared,
                ends=Ends(maker=me, opener=holder, h1=h1),
            )
            capsules[holder] = capsule.encode()
    return capsules, secrets
