"""What one round did, as metrics, trackers and evidence tell it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["RoundReport"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundReport:
    """What one round did; a line of metrics.jsonl."""

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
    secure_aggregation: Literal["on", "off"]  # off: the server saw every site's update
    secure: dict[str, Any] | None = None  # t, c, survivors, stages, transcript
    quality: dict[str, Any] | None = None  # when this round was judged

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
