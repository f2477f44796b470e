"""Plan and report of a pooled audit, at the server; and a site's own, of its counts alone."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from phoenix_secure.audit.attack import Access
from phoenix_secure.audit.markdown import to_markdown
from phoenix_secure.audit.plan import AuditPlan, Claim, PlannedAttack, PlannedGroup, PlannedPool
from phoenix_secure.audit.pooled.attack_list import POOLED
from phoenix_secure.audit.pooled.moments import (
    FEATURES_NAME,
    frechet,
    moments_of,
    quantised_features,
)
from phoenix_secure.audit.pooled.report import pooled_report
from phoenix_secure.audit.report import AuditReport, PooledReport
from phoenix_secure.audit.units import low_fpr_of
from phoenix_secure.config import RunConfig
from phoenix_secure.device import num_cores
from phoenix_secure.federation.secagg.pooled_layout import FeatureMoments, PooledCounts
from phoenix_secure.federation.secagg.pooled_terms import fewest_entered, pooled_terms
from phoenix_secure.federation.server.pooled_audit import PooledSum
from phoenix_secure.federation.site.pooled_audit import AuditedImages
from phoenix_secure.files import storage_errors, write_bytes
from phoenix_secure.privacy.guarantee import NO_GUARANTEE, Guarantee
from phoenix_secure.workers import workers

__all__ = ["Auditor", "keep_own_report"]

_FPRS = (0.1, 0.05, 0.01, 0.001)
_SIGNIFICANCE = 0.05
_MAX_DETECTABLE = 0.60
_NUM_SAMPLES = 500
_FEWEST_FEATURES = 50  # vectors on a side of a distance


class Auditor:
    """Of the plan ``plan`` (its SHA-256), a ``federation.server.pooled_stage.PooledAuditor``."""

    def __init__(self, config: RunConfig, *, plan: str) -> None:
        self._config = config
        self._plan = plan

    @property
    def terms(self) -> dict[str, Any]:
        """What ``AuditPlan.keeps`` compares, and the bins and bounds."""
        return {
            "version": importlib.metadata.version("phoenix-secure"),
            "profile": "pooled",
            "seed": self._config.seed,
            "attacks": [attack.name for attack in POOLED],
            "fprs": list(_FPRS),
            "significance": _SIGNIFICANCE,
            "pooled": _pool(self._config, plan=self._plan).model_dump(mode="json"),
        }

    def plan(self, *, target_sha256: str, guarantee: Guarantee) -> str:
        """The SHA-256 of the plan for one model."""
        planned = _planned(
            self._config, plan=self._plan, target_sha256=target_sha256, guarantee=guarantee
        )
        return planned.sha256

    def write(
        self,
        found: PooledSum,
        *,
        target_sha256: str,
        guarantee: Guarantee,
        sample: Callable[[int], np.ndarray],
        seconds: float,
        out: Path,
    ) -> Path:
        """Write plan and report of the sum.

        Raises:     DataError where the counts allow no figure; StorageError.
        """
        moments = found.counts.moments
        generated = None
        if moments.count >= _FEWEST_FEATURES:
            with workers(num_cores()):
                generated = moments_of(quantised_features(sample(_NUM_SAMPLES)))
        planned = _planned(
            self._config, plan=self._plan, target_sha256=target_sha256, guarantee=guarantee
        )
        report = _report(
            found.counts,
            config=self._config,
            planned=planned,
            asked=self._config.partition.num_sites,
            generated=generated,
            edition="public",
            seconds=seconds,
        )
        with storage_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        write_bytes(out / "plan.json", planned.to_bytes() + b"\n")
        return _write(report, out)


def keep_own_report(images: AuditedImages, counts: PooledCounts, seconds: float) -> None:
    """The site's own figures, for its owner alone: nothing of them leaves.

    Raises:     StorageError.
    """
    report = _report(
        counts,
        config=images.config,
        planned=_planned(
            images.config, plan=images.out.name, target_sha256="", guarantee=NO_GUARANTEE
        ),
        asked=1,
        generated=None,
        edition="confidential",
        seconds=seconds,
    )
    with storage_errors(images.out):
        images.out.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(report, images.out, mode=0o600)


def _report(
    counts: PooledCounts,
    *,
    config: RunConfig,
    planned: AuditPlan,
    asked: int,
    generated: FeatureMoments | None,
    edition: Literal["public", "confidential"],
    seconds: float,
) -> AuditReport:
    first = counts.attacks[0]
    return pooled_report(
        counts,
        plan=planned,
        pooled=PooledReport(
            unit=_unit(config),
            num_members=int(first.members.sum()),
            num_others=int(first.others.sum()),
            sites_asked=asked,
            sites_answered=counts.answered,
            sites_entered=counts.entered,
            noise="none: exact sums",
            frechet=None if generated is None else frechet(generated, counts.moments),
            frechet_name=FEATURES_NAME,
            frechet_held_out=counts.moments.count,
            frechet_samples=0 if generated is None else generated.count,
        ),
        target={
            "kind": "deployed run",
            "weights": "moving average (EMA)" if config.ema.decay > 0 else "last round",
            "model": "the state that every site computed or saw signed",
            "secure aggregation": config.secure_aggregation.mode,
            "differential privacy": config.privacy.unit,
        },
        class_names=config.data.class_names,
        edition=edition,
        seconds=seconds,
    )


def _write(report: AuditReport, out: Path, *, mode: int = 0o644) -> Path:
    write_bytes(out / "audit.md", to_markdown(report).encode(), mode=mode)
    file = out / "audit.json"
    write_bytes(file, (report.model_dump_json(indent=2) + "\n").encode(), mode=mode)
    return file


def _planned(
    config: RunConfig, *, plan: str, target_sha256: str, guarantee: Guarantee
) -> AuditPlan:
    pool, sites = _pool(config, plan=plan), config.partition.num_sites
    most = sites * pool.max_images
    return AuditPlan(
        version=importlib.metadata.version("phoenix-secure"),
        target_kind="deployed run",
        target_sha256=target_sha256,
        profile="pooled",
        seed=config.seed,
        attacks=tuple(
            PlannedAttack(name=each.name, access=Access.QUERIES.value, settings=(each.setting,))
            for each in POOLED
        ),
        fprs=_FPRS,
        # Of the fewest images that any sum can hold: nothing depends on how many there are.
        low_fpr=low_fpr_of(_FPRS, num_others=pool.fewest_sites * pool.min_images),
        confidence=0.95,
        significance=_SIGNIFICANCE,
        max_detectable_auc=_MAX_DETECTABLE,
        choice=PlannedGroup(num_members=0, num_others=0, sha256=""),
        evaluation=PlannedGroup(num_members=most, num_others=most, sha256=""),
        pooled=pool,
        num_calibration=0,
        num_samples=_NUM_SAMPLES,
        num_shadows=0,
        canaries=None,
        claim=_claim(guarantee),
    )


def _pool(config: RunConfig, *, plan: str) -> PlannedPool:
    return PlannedPool(
        plan=plan,
        bins=config.audit.bins,
        ranges={each.name: (each.bins.low, each.bins.high) for each in POOLED},
        max_images=config.audit.max_images,
        min_images=config.audit.min_images,
        fewest_sites=fewest_entered(pooled_terms(config)),
    )


def _unit(config: RunConfig) -> Literal["image", "person"]:
    return "image" if config.data.group is None else "person"


def _claim(guarantee: Guarantee) -> Claim | None:
    if guarantee.epsilon is None or guarantee.delta is None:
        return None
    return Claim(
        unit=guarantee.unit,
        epsilon=guarantee.epsilon,
        delta=guarantee.delta,
        source="the run's guarantee",
    )
