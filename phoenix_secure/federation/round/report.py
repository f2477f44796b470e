"""Reports of stages and rounds: the events of a run, for metrics, trackers and callers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from phoenix_secure.federation.round.small_consortium import no_colluders_in_words
from phoenix_secure.federation.round.sparse_graph import SparseGraph

__all__ = [
    "FitReport",
    "RoundReport",
    "RunEvent",
    "SecureRoundRecord",
    "StageReport",
    "TermsRecord",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """The outcome of one stage of one attempt; nothing in it depends on a site's images."""

    training_round: int
    attempt: int  # 1 for the first try at the training round
    stage: str
    asked: tuple[str, ...]
    answered: tuple[str, ...]
    failures: dict[str, str]  # site -> code, or what its signed answer broke
    bytes_down: int
    bytes_up: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def cost(self) -> dict[str, Any]:
        """The stage's part of a round's record."""
        return {
            "attempt": self.attempt,
            "stage": self.stage,
            "bytes_down": self.bytes_down,
            "bytes_up": self.bytes_up,
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class TermsRecord:
    """The terms of secure rounds that a reader of the run's records needs to assess it.

    n, t, c    sites of a cohort, sites that must stay, sites that may collude with the server
    graph      the k-regular one of more than 128 sites; None for the complete graph
    """

    n: int
    t: int
    c: int
    word_bits: int
    scale: float
    clip_norm: float
    clip_value: float
    max_images: int
    noise_variance_of_a_site: float
    graph: SparseGraph | None = None

    @property
    def assumption(self) -> str | None:
        """What sums rest on beside c, in plain words: that there is no colluder at all, or a
        k-regular graph; None on the complete graph with c >= 1."""
        if self.graph is not None:
            return self.graph.in_words(n=self.n, t=self.t, c=self.c)
        return None if self.c else no_colluders_in_words(self.t)

    def to_dict(self) -> dict[str, Any]:
        # Unwritten where there is none, so that records of before keep their bytes.
        values = asdict(self)
        if self.graph is None:
            del values["graph"]
        return values | ({} if self.assumption is None else {"assumption": self.assumption})

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> TermsRecord:
        """The terms among other entries of ``content``.

        Raises:     ValueError when one is missing.
        """
        graph = content.get("graph")
        names = [each.name for each in fields(cls) if each.name != "graph"]
        try:
            return cls(
                **{name: content[name] for name in names},
                graph=None if graph is None else SparseGraph.from_dict(graph),
            )
        except KeyError as error:
            raise ValueError(f"expected the term {error.args[0]} of secure aggregation") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class SecureRoundRecord:
    """One secure sum: under which terms, over how many sites, after how many attempts.

    dropouts     stage of the last attempt -> site -> code
    excluded     sites that broke the protocol under their own signature, in this round or before:
                 ``site``, ``reason``, and ``proof``, the SHA-256 of the messages that convict it
    unclipped_fraction  noised share of updates within an adaptive clip norm; None without one
    clipped      updates that were clipped; None where differential privacy hides it
    failed       survivors whose training failed, and which entered zeros; None as above
    transcript   hash of the protocol round's transcript, in hexadecimal
    """

    terms: TermsRecord
    protocol_round: int
    attempts: int
    failed_attempts: tuple[str, ...]  # why
    survivors: int
    dropouts: dict[str, dict[str, str]]
    unclipped_fraction: float | None
    clipped: int | None
    transcript: str
    stages: tuple[StageReport, ...]
    excluded: tuple[dict[str, str], ...] = ()
    failed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.terms.to_dict(),
            **self.evidence,
            "dropouts": self.dropouts,
            "unclipped_fraction": self.unclipped_fraction,
            "stages": [stage.cost for stage in self.stages],
        }

    @property
    def evidence(self) -> dict[str, Any]:
        """The part that the evidence ledger keeps."""
        return {
            "protocol_round": self.protocol_round,
            "attempts": self.attempts,
            "failed_attempts": list(self.failed_attempts),
            "survivors": self.survivors,
            "excluded": list(self.excluded),
            "clipped": self.clipped,
            "failed": self.failed,
            "transcript": self.transcript,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundReport:
    """The outcome of one round; a line of metrics.jsonl."""

    round_number: int
    loss: float | None  # mean over sites, weighted by images; None where no site tells
    sites: tuple[str, ...]  # that answered
    failures: dict[str, str]  # site -> code
    num_images: int | None  # images that the sites hold, all together; None as above
    images_per_s: float  # images trained on, all sites together
    seconds: float
    bytes_down: int
    bytes_up: int
    update_norm: float  # L2 norm of the mean update
    secure: SecureRoundRecord | None = None  # None: the server saw every site's update
    quality: dict[str, Any] | None = None  # when this round was evaluated

    @property
    def secure_aggregation(self) -> Literal["on", "off"]:
        return "off" if self.secure is None else "on"

    def to_dict(self) -> dict[str, Any]:
        values = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name != "secure"
        }
        return values | {
            "secure_aggregation": self.secure_aggregation,
            "secure": None if self.secure is None else self.secure.to_dict(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class FitReport:
    """Progress of what a server makes of noised sums after the last round.

    what    generator, ddpm or refined generator
    loss    an estimate; the generator's is unbiased and may be below zero
    """

    what: str
    step: int
    num_steps: int
    loss: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# What a run tells while it is under way, in order.
RunEvent = StageReport | RoundReport | FitReport
