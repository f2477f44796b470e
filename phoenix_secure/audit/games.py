"""The audit's other games: sets of images, extraction, and a server's reconstructions.

Membership of single images is the main game (``suite``). These have units and tests of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attacks.records import Images
from phoenix_secure.audit.dataset_inference import infer_use
from phoenix_secure.audit.extraction import extract_members
from phoenix_secure.audit.gradient_inversion import invert_gradients
from phoenix_secure.audit.reading import PixelScale
from phoenix_secure.audit.report_games import (
    DatasetInferenceReport,
    ExtractionReport,
    InversionReport,
)
from phoenix_secure.audit.request import Request
from phoenix_secure.audit.roles import Roles
from phoenix_secure.audit.target import Target
from phoenix_secure.audit.verdict import SetTest
from phoenix_secure.rng import SeedTree

__all__ = ["PlayedGames", "play_games"]

_BLIND = 0.05  # of the same test on pixels: below, the sets differ by themselves
_PLACEBO_ERROR = 0.01  # chance that the placebo of dataset inference is thought broken
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayedGames:
    """What each game found; None where it was not played."""

    dataset_inference: DatasetInferenceReport | None = None
    extraction: ExtractionReport | None = None
    inversion: InversionReport | None = None

    @property
    def set_tests(self) -> tuple[SetTest, ...]:
        """Tests of whole sets that the verdict counts beside the attacks."""
        found = []
        if (use := self.dataset_inference) is not None and use.suspects[0].p_value is not None:
            placebo_holds = use.placebo_p is None or use.placebo_p > _PLACEBO_ERROR
            found.append(
                SetTest(
                    name="dataset-inference",
                    p_value=use.suspects[0].p_value,
                    p_adjusted=use.p_adjusted,
                    placebo_inside=placebo_holds,
                    told_blindly=(blind := use.suspects[0].blind_p) is None or blind <= _BLIND,
                )
            )
        if (copies := self.extraction) is not None:
            found.append(
                SetTest(
                    name="extraction",
                    p_value=copies.p_value,
                    p_adjusted=copies.p_adjusted,
                    placebo_inside=True,  # unseen images are its control
                    told_blindly=False,
                )
            )
        return tuple(found)

    @property
    def p_values(self) -> tuple[float, ...]:
        """Of ``set_tests``, in their order."""
        return tuple(test.p_value for test in self.set_tests)

    def adjusted(self, p_values: Sequence[float]) -> PlayedGames:
        """With the p-values of ``set_tests`` adjusted over all tests of the audit."""
        by_name = {test.name: p for test, p in zip(self.set_tests, p_values, strict=True)}
        use, copies = self.dataset_inference, self.extraction
        if use is not None and "dataset-inference" in by_name:
            use = use.model_copy(update={"p_adjusted": by_name["dataset-inference"]})
        if copies is not None and "extraction" in by_name:
            copies = copies.model_copy(update={"p_adjusted": by_name["extraction"]})
        return dataclasses.replace(self, dataset_inference=use, extraction=copies)


def play_games(
    target: Target,
    request: Request,
    games: Sequence[str],
    *,
    roles: Roles,
    samples: Images | None,
    scale: PixelScale,
    cache_dir: Path,
    seeds: SeedTree,
    progress: Progress,
) -> PlayedGames:
    """Play each of ``games``, which ``choice`` found to be possible here."""
    use = copies = inversion = None
    if "dataset-inference" in games and target.model is not None:
        progress("dataset inference", 0, 1)
        sites = target.images.member_sites
        with_sites = request.edition == "confidential" and sites is not None
        use = infer_use(
            model=target.model,
            roles=roles,
            sites=sites[roles.members] if with_sites and sites is not None else None,
            profile=request.profile,
            scale=scale,
            seeds=seeds,
        )
    if "extraction" in games and samples is not None:
        progress("extraction", 0, 1)
        copies = extract_members(target, samples, seeds=seeds)
    if "gradient-inversion" in games:
        inversion = invert_gradients(
            target,
            cache_dir=cache_dir,
            seeds=seeds,
            num_images=request.profile.num_inversions,
            num_iterations=request.profile.inversion_iterations,
            progress=progress,
        )
    return PlayedGames(dataset_inference=use, extraction=copies, inversion=inversion)
