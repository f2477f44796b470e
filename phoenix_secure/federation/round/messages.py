"""The server's requests and the sites' answers as bytes (safetensors: no code, no surprises)."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

__all__ = ["MalformedMessage", "SecureTrainRequest", "TrainReply", "TrainRequest", "WireModel"]

_LENGTH_SIZE = 4
# What safetensors and the single numbers take beside the vector of an answer.
_MAX_FRAME = 4096
_LEAST_FACTOR = 2.0**-20
# What safetensors writes before a vector: its header, filled up, then the single numbers.
_ALIGNMENT = 8
_NUMBERS = struct.Struct("<qd")


class MalformedMessage(ValueError):  # noqa: N818
    """Bytes that are not the message expected; says what was expected, never what came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRequest:
    """Train round ``round_number`` from the global ``parameters`` (d,) float32.

    clip_factor   the round's adaptive clip norm, in units of privacy.clip_norm; else 1
    """

    round_number: int
    parameters: np.ndarray
    clip_factor: float = 1.0

    def to_bytes(self) -> bytes:
        return b"".join(self.parts())

    def parts(self) -> tuple[bytes, memoryview]:
        """The wire form, safetensors, in two parts: the parameters are not copied."""
        vector = np.ascontiguousarray(self.parameters, "<f4")
        end = _NUMBERS.size + vector.nbytes
        numbers = _NUMBERS.size
        header = (
            '{"round":{"dtype":"I64","shape":[],"data_offsets":[0,8]},'
            f'"clip_factor":{{"dtype":"F64","shape":[],"data_offsets":[8,{numbers}]}},'
            f'"parameters":{{"dtype":"F32","shape":[{vector.size}],'
            f'"data_offsets":[{numbers},{end}]}}}}'
        ).encode()
        header += b" " * (-len(header) % _ALIGNMENT)
        head = len(header).to_bytes(_ALIGNMENT, "little") + header
        return head + _NUMBERS.pack(self.round_number, self.clip_factor), vector.data.cast("B")

    @classmethod
    def from_bytes(cls, body: bytes) -> TrainRequest:
        fields = _fields(
            body,
            {
                "round": (np.int64, 0),
                "parameters": (np.float32, 1),
                "clip_factor": (np.float64, 0),
            },
        )
        factor = float(fields["clip_factor"])
        if not _LEAST_FACTOR <= factor <= 1 / _LEAST_FACTOR:
            raise MalformedMessage("expected a clip factor between 2^-20 and 2^20")
        return cls(
            round_number=int(fields["round"]),
            parameters=fields["parameters"],
            clip_factor=factor,
        )


class WireModel:
    """A request and its wire form: the model whose hash a protocol's context binds.

    parts   the bytes, unjoined; each hash is computed once, when it is first asked for
    """

    def __init__(self, request: TrainRequest, parts: tuple[bytes | memoryview, ...]) -> None:
        self.request = request
        self.parts = parts

    @classmethod
    def of(cls, request: TrainRequest) -> WireModel:
        """The model of a request that was made here."""
        return cls(request, request.parts())

    @classmethod
    def received(cls, body: bytes) -> WireModel:
        """The model in bytes that came.

        Raises:     MalformedMessage.
        """
        return cls(TrainRequest.from_bytes(body), (body,))

    def __repr__(self) -> str:
        return f"<WireModel of {self.request.parameters.size} parameters>"

    @cached_property
    def sha256(self) -> bytes:
        """Over the wire form."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
        return digest.digest()

    @cached_property
    def parameters_sha256(self) -> str:
        """Over the parameters alone, without the round that they are trained in; hexadecimal."""
        vector = np.ascontiguousarray(self.request.parameters, "<f4")
        return hashlib.sha256(vector.data).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class SecureTrainRequest:
    """The offer of a secure round, and the model to train on: the bytes of a ``TrainRequest``.

    The protocol's specification in the announcement binds the SHA-256 of ``model``, so that all
    sites train the same round from the same parameters.
    """

    announcement: bytes
    model: bytes

    def __repr__(self) -> str:
        return f"<SecureTrainRequest of {len(self.model)} bytes>"

    def to_bytes(self) -> bytes:
        size = len(self.announcement).to_bytes(_LENGTH_SIZE, "big")
        return b"".join((size, self.announcement, self.model))

    @classmethod
    def from_bytes(cls, body: bytes) -> SecureTrainRequest:
        """Split; what the parts hold is for their own readers.

        Raises:     MalformedMessage when the length does not fit.
        """
        size = int.from_bytes(body[:_LENGTH_SIZE], "big")
        if len(body) < _LENGTH_SIZE or size > len(body) - _LENGTH_SIZE:
            raise MalformedMessage("expected an announcement and a model")
        end = _LENGTH_SIZE + size
        return cls(announcement=body[_LENGTH_SIZE:end], model=body[end:])


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReply:
    """A site's update for a round."""

    round_number: int
    delta: np.ndarray  # (d,) float32
    num_images: int
    num_steps: int
    loss: float
    seconds: float

    @staticmethod
    def max_bytes(num_parameters: int) -> int:
        """The longest that an answer with a change of ``num_parameters`` can be."""
        return num_parameters * np.dtype(np.float32).itemsize + _MAX_FRAME

    def to_bytes(self) -> bytes:
        return save(
            {
                "round": _whole(self.round_number),
                "delta": self.delta,
                "num_images": _whole(self.num_images),
                "num_steps": _whole(self.num_steps),
                "loss": np.array(self.loss, np.float64),
                "seconds": np.array(self.seconds, np.float64),
            }
        )

    @classmethod
    def from_bytes(cls, body: bytes, *, round_number: int, num_parameters: int) -> TrainReply:
        """Parse and check an answer.

        Raises:     MalformedMessage for another round or size, NaN, or a count below 1.
        """
        fields = _fields(
            body,
            {
                "round": (np.int64, 0),
                "delta": (np.float32, 1),
                "num_images": (np.int64, 0),
                "num_steps": (np.int64, 0),
                "loss": (np.float64, 0),
                "seconds": (np.float64, 0),
            },
        )
        if int(fields["round"]) != round_number:
            raise MalformedMessage(f"expected an answer for round {round_number}")
        if fields["delta"].shape != (num_parameters,) or not np.isfinite(fields["delta"]).all():
            raise MalformedMessage(f"expected {num_parameters} finite changes")
        if min(int(fields["num_images"]), int(fields["num_steps"])) < 1:
            raise MalformedMessage("expected at least one image and one step")
        if not np.isfinite([fields["loss"], fields["seconds"]]).all():
            raise MalformedMessage("expected a finite loss and duration")
        return cls(
            round_number=round_number,
            delta=fields["delta"],
            num_images=int(fields["num_images"]),
            num_steps=int(fields["num_steps"]),
            loss=float(fields["loss"]),
            seconds=float(fields["seconds"]),
        )


def _whole(value: int) -> np.ndarray:
    return np.array(value, np.int64)


def _fields(body: bytes, expected: dict[str, tuple[type, int]]) -> dict[str, np.ndarray]:
    """Parse ``body`` and check names, types and ranks against ``expected``."""
    try:
        fields: dict[str, np.ndarray] = load(body)
    except (SafetensorError, ValueError, KeyError) as error:
        raise MalformedMessage("expected safetensors bytes") from error
    found = {name: (value.dtype.type, value.ndim) for name, value in fields.items()}
    if found != expected:
        raise MalformedMessage(f"expected exactly the fields {', '.join(expected)}")
    return fields
