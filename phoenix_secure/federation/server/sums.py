"""The newest sums on the server's disk, each with the signatures under the model that follows.

::

    server/sums/round-000012.bin    written in one step, once enough sites have confirmed the model

Sites that were away catch up with them, and a server that lost its checkpoint goes on from them: a
round whose model sites have confirmed is never summed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.round.confirmation import Certificate
from phoenix_secure.federation.secagg.sum_step import SummedRound
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.files import write_bytes
from protocol import RemoteProtocolError
from protocol.encoding import Reader, encode, encode_text, encode_uint
from protocol.events import RoundCompleted

__all__ = ["KeptSum", "KeptSums", "last_confirmed"]

_WHO = "this file"
_MAX_SITES = 1 << 16
_MAX_CERTIFICATE = 1 << 24


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class KeptSum:
    """A round's sum, who is in it, and who confirmed the model that follows.

    protocol_round, transcript   of the protocol's round that it came from
    bytes_down, bytes_up         that it took; 0 in files of before
    """

    summed: SummedRound
    survivors: tuple[str, ...]
    certificate: Certificate
    protocol_round: int
    transcript: bytes
    bytes_down: int = 0
    bytes_up: int = 0

    def completed(self, terms: SecureTerms) -> RoundCompleted:
        """The outcome of the protocol's round."""
        words, extra = self.summed.words(terms)
        return RoundCompleted(
            survivors=self.survivors,
            words=words,
            extra=extra,
            sum_digest=self.summed.digest,
            transcript_hash=self.transcript,
        )

    def to_bytes(self) -> bytes:
        return encode(
            [
                self.summed.parts(),
                encode(encode_text(site) for site in self.survivors),
                self.certificate.to_bytes(),
                encode_uint(self.protocol_round),
                self.transcript,
                encode_uint(self.bytes_down),
                encode_uint(self.bytes_up),
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, packed_size: int) -> KeptSum:
        """What ``to_bytes`` wrote.

        Raises:     RemoteProtocolError for anything else.
        """
        reader = Reader(data, peer=_WHO)
        summed = SummedRound.from_bytes(
            reader.view("sum", max_size=len(data)), peer=_WHO, packed_size=packed_size
        )
        survivors = reader.items(
            "survivors", lambda items: items.text("site"), max_items=_MAX_SITES, max_size=len(data)
        )
        certificate = Certificate.from_bytes(
            reader.view("certificate", max_size=_MAX_CERTIFICATE), max_sites=_MAX_SITES, peer=_WHO
        )
        protocol_round = reader.uint("protocol round")
        transcript = reader.exact("transcript", size=32)
        down = up = 0
        if not reader.is_done:
            down, up = reader.uint("bytes down"), reader.uint("bytes up")
        reader.finish()
        return cls(
            summed=summed,
            survivors=tuple(survivors),
            certificate=certificate,
            protocol_round=protocol_round,
            transcript=transcript,
            bytes_down=down,
            bytes_up=up,
        )


class KeptSums:
    """The folder; the newest ``keep`` rounds stay in it."""

    def __init__(self, folder: Path, *, keep: int, packed_size: int) -> None:
        self._folder = folder
        self._keep = keep
        self._packed_size = packed_size

    def save(self, kept: KeptSum) -> None:
        """Keep ``kept`` before this returns."""
        write_bytes(self._path(kept.summed.round_number), kept.to_bytes(), mode=0o600)
        for number in self.rounds()[: -self._keep]:
            self._path(number).unlink(missing_ok=True)

    def load(self, round_number: int) -> KeptSum | None:
        """The sum of ``round_number``, where it is kept.

        Raises:     CheckpointError for a damaged file.
        """
        path = self._path(round_number)
        if not path.exists():
            return None
        try:
            kept = KeptSum.from_bytes(path.read_bytes(), packed_size=self._packed_size)
        except (OSError, RemoteProtocolError) as error:
            raise CheckpointError(
                f"{path} is damaged: delete it; the round is summed again if its checkpoint is lost"
            ) from error
        return kept if kept.summed.round_number == round_number else None

    def rounds(self) -> list[int]:
        """The rounds that are kept, sorted."""
        return _rounds(self._folder)

    def _path(self, round_number: int) -> Path:
        return self._folder / f"round-{round_number:06d}.bin"


def last_confirmed(folder: Path, *, round_number: int) -> int:
    """The round up to which a run asks no site again that resumes after ``round_number``."""
    kept = set(_rounds(folder))
    while round_number + 1 in kept:
        round_number += 1
    return round_number


def _rounds(folder: Path) -> list[int]:
    names = (path.stem.removeprefix("round-") for path in folder.glob("round-*.bin"))
    return sorted(int(name) for name in names if name.isdecimal())
