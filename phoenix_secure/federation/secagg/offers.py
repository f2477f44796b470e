"""What travels in place of a model where every site computes it: offers, sums, states.

The offer of a round names the state that it starts from. A site that has it needs nothing more; a
site that was away gets, with the certificate of that state, either the sums since its own or the
state itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from phoenix_secure.federation.round.confirmation import Certificate
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.secagg.sum_step import SummedRound
from protocol import SERVER
from protocol.encoding import Reader, encode, encode_uint

__all__ = ["BroadcastSum", "CatchUp", "RoundOffer", "state_from_bytes", "state_to_bytes"]

_MAX_ANNOUNCEMENT = 1 << 22
_MAX_RESULT = 1 << 22
_MAX_ROUND = 1 << 32
_MAX_SUMS = 16
_MAX_CERTIFICATE = 1 << 20
_HEAD = struct.Struct(">Qd4Q")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class CatchUp:
    """For a site that was away: a certificate, and sums or a state, whichever is shorter.

    own   what the site itself signed last, for one that does not know what the server expects
    """

    certificate: Certificate
    sums: tuple[SummedRound, ...] = ()
    state: bytes = b""
    own: Certificate | None = None

    def to_bytes(self) -> bytes:
        sums = encode(each.to_bytes() for each in self.sums)
        own = b"" if self.own is None else self.own.to_bytes()
        return encode([self.certificate.to_bytes(), sums, self.state, own])

    @classmethod
    def from_bytes(
        cls, data: memoryview, *, max_sites: int, packed_size: int, max_state: int
    ) -> CatchUp:
        """Parse.

        Raises:     RemoteProtocolError naming the server.
        """
        reader = Reader(data, peer=SERVER)
        certificate = Certificate.from_bytes(
            reader.view("certificate", max_size=_MAX_CERTIFICATE), max_sites=max_sites
        )
        size = packed_size + 256
        sums = reader.items(
            "sums",
            lambda items: SummedRound.from_bytes(
                items.view("sum", max_size=size), peer=SERVER, packed_size=packed_size
            ),
            max_items=_MAX_SUMS,
            max_size=_MAX_SUMS * size,
        )
        state = bytes(reader.view("state", max_size=max_state))
        own = reader.view("own", max_size=_MAX_CERTIFICATE)
        reader.finish()
        return cls(
            certificate=certificate,
            sums=tuple(sums),
            state=state,
            own=Certificate.from_bytes(own, max_sites=1) if len(own) else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class RoundOffer:
    """The offer of a secure round that starts from the state after round ``base``.

    announcement   of the protocol: it binds the hash of the model in that state
    """

    announcement: bytes
    round_number: int
    base: int
    catch_up: CatchUp | None = None

    def to_bytes(self) -> bytes:
        rest = b"" if self.catch_up is None else self.catch_up.to_bytes()
        numbers = encode_uint(self.round_number), encode_uint(self.base)
        return encode([self.announcement, *numbers, rest])

    @classmethod
    def from_bytes(
        cls, body: bytes, *, max_sites: int, packed_size: int, max_state: int
    ) -> RoundOffer:
        """Parse; nothing in it is to be believed yet.

        Raises:     RemoteProtocolError naming the server.
        """
        reader = Reader(body, peer=SERVER)
        announcement = bytes(reader.view("announcement", max_size=_MAX_ANNOUNCEMENT))
        round_number = reader.uint("round", max_value=_MAX_ROUND)
        base = reader.uint("base", max_value=_MAX_ROUND)
        rest = reader.view("catch-up", max_size=len(body))
        reader.finish()
        catch_up = None
        if len(rest):
            catch_up = CatchUp.from_bytes(
                rest, max_sites=max_sites, packed_size=packed_size, max_state=max_state
            )
        return cls(
            announcement=announcement, round_number=round_number, base=base, catch_up=catch_up
        )


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class BroadcastSum:
    """A round's result, signed by the server, and the sum whose digest is in it."""

    result: bytes
    summed: SummedRound

    def to_bytes(self) -> bytes:
        return encode([self.result, self.summed.parts()])

    @classmethod
    def from_bytes(cls, body: bytes, *, packed_size: int) -> BroadcastSum:
        """Parse.

        Raises:     RemoteProtocolError naming the server.
        """
        reader = Reader(body, peer=SERVER)
        result = bytes(reader.view("result", max_size=_MAX_RESULT))
        summed = SummedRound.from_bytes(
            reader.view("sum", max_size=packed_size + 256), peer=SERVER, packed_size=packed_size
        )
        reader.finish()
        return cls(result=result, summed=summed)


def state_to_bytes(state: ServerState) -> bytes:
    """Every bit of ``state``, little-endian."""
    vectors = (state.parameters, state.ema, state.momentum, state.second_moment)
    head = _HEAD.pack(state.round_number, state.clip_factor, *(v.size for v in vectors))
    return b"".join([head, *(np.ascontiguousarray(v, "<f4").tobytes() for v in vectors)])


def state_from_bytes(data: bytes, *, like: ServerState) -> ServerState:
    """A state with vectors of the sizes that ``like`` has.

    Raises:     ValueError for other sizes, or a clip factor that cannot be.
    """
    sizes = [v.size for v in (like.parameters, like.ema, like.momentum, like.second_moment)]
    if len(data) != _HEAD.size + 4 * sum(sizes):
        raise ValueError("expected a state of this run's size")
    round_number, clip_factor, *found = _HEAD.unpack_from(data)
    if found != sizes:
        raise ValueError("expected vectors of this run's sizes")
    vectors, start = [], _HEAD.size
    for size in sizes:
        vectors.append(np.frombuffer(data, "<f4", size, start).astype(np.float32))
        start += 4 * size
    return ServerState(
        round_number=round_number,
        parameters=vectors[0],
        ema=vectors[1],
        momentum=vectors[2],
        second_moment=vectors[3],
        clip_factor=clip_factor,
    )
