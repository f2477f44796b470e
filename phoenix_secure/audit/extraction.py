"""Extraction: training images among the samples, found by whoever holds nothing but the samples.

Source:     Carlini et al. (2023), arXiv:2301.13188 (generate and filter; ``attacks.extraction``).
"""

from __future__ import annotations

import time

import numpy as np
from scipy.stats import hypergeom

from attacks.extraction import extract, likely_copies
from attacks.records import Images
from attacks.statistics.intervals import Side, clopper_pearson
from phoenix_secure.audit.report_games import ExtractionReport
from phoenix_secure.audit.target import Target
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.rng import SeedTree

__all__ = ["extract_members", "extraction_obstacle"]

_FEWEST = 50  # images on each side, and samples: the paper's ratio counts 50 neighbours
_MAX_IMAGES = 10_000
_CLAIMED = 20  # one sample in so many is claimed to be a copy


def extraction_obstacle(target: Target, *, num_samples: int | None) -> str | None:
    """The reason why nothing can be extracted, or None."""
    fewest = min(target.images.members.num_images, target.images.non_members.num_images)
    if num_samples is None or min(fewest, num_samples) <= _FEWEST:
        return f"needs more than {_FEWEST} samples, members and non-members each"
    return None


def extract_members(target: Target, samples: Images, *, seeds: SeedTree) -> ExtractionReport:
    """Near copies of members among ``samples``, beside near copies of as many unseen images.

    Both sets are searched as one, so that an image that the samples resemble by chance is found in
    either alike.
    Guarantee:  where members and unseen images are exchangeable, the p-value is at most a with a
                chance of at most a (hypergeometric, given the number of images with a copy).
    """
    started = time.perf_counter()
    rng = seeds.child("extraction").numpy()
    members, others = target.images.members.images, target.images.non_members.images
    num = min(len(members), len(others), _MAX_IMAGES)
    pool = to_unit_range(
        np.concatenate(
            [
                members[rng.permutation(len(members))[:num]],
                others[rng.permutation(len(others))[:num]],
            ]
        )
    )
    found = extract(pool, samples=samples)
    is_copy = found.ratios < found.threshold
    copied = np.unique(found.nearest[is_copy])
    extracted, control = int((copied < num).sum()), int((copied >= num).sum())
    claims = likely_copies(samples, num_claims=max(1, len(samples) // _CLAIMED))
    of_claims = found.nearest[claims][is_copy[claims]]
    return ExtractionReport(
        num_samples=len(samples),
        num_members=num,
        num_control=num,
        extracted=extracted,
        extracted_control=control,
        num_claims=len(claims),
        claims_right=int((of_claims < num).sum()),
        claims_right_control=int((of_claims >= num).sum()),
        rate_high=clopper_pearson(
            int((is_copy & (found.nearest < num)).sum()),
            num_trials=len(samples),
            confidence=0.95,
            side=Side.UPPER,
        ).high,
        p_value=float(hypergeom.sf(extracted - 1, 2 * num, num, extracted + control)),
        seconds=time.perf_counter() - started,
    )
