"""Joining differential privacy to one site: its trainer, its ledger, its noise."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from phoenix_secure.config import CLASSIFIER, RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.secagg.payload import Payload
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan, check_images, num_records
from phoenix_secure.federation.secagg.terms import SecureTerms, summed_noise
from phoenix_secure.federation.site.kept_answers import KeptAnswers
from phoenix_secure.federation.site.noised_sums import NoisedSummer
from phoenix_secure.federation.site.releases import Releases
from phoenix_secure.privacy.budget import Budget
from phoenix_secure.privacy.data_sets import keep_records
from phoenix_secure.privacy.ledger import PrivacyLedger
from phoenix_secure.privacy.record_hashes import data_digest, open_key
from phoenix_secure.release.class_sums import FeatureSummer
from phoenix_secure.release.classifier_sums import ClassifierSummer
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.release.layout import ReleaseLayout
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradient_sums import GradientSummer
from phoenix_secure.training.gradients import plain_trainer
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.private import PrivateTrainer
from protocol.entropy import Entropy, os_entropy

__all__ = [
    "SitePrivacy",
    "Trainer",
    "make_summer",
    "make_trainer",
    "open_site_privacy",
    "rounding_keys",
    "site_noise_entropy",
]


Trainer = LocalTrainer | PrivateTrainer | GradientSummer | ClassifierSummer | NoisedSummer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SitePrivacy:
    """The privacy settings and the release record of a site's worker.

    hides_metrics    nothing is told beside the noised update
    """

    releases: Releases
    hides_metrics: bool


def open_site_privacy(
    config: RunConfig,
    plan: PrivacyPlan | None,
    *,
    site: str,
    own: SiteImages,
    folder: Path,
    run: str,
    total: Budget | None = None,
) -> SitePrivacy | None:
    """The privacy side of one site; None where no unit is named.

    own      the site's own images, without public ones that a strategy mixes in
    folder   holds ``privacy.jsonl`` (all runs of this site), ``privacy.key``, ``record-hashes`` and
             the kept answers
    run      names the run in the ledger
    total    what all runs on this site together may spend

    Too few images for the settings are the owner's to know: the log says it, and the site answers
    all the same, since a failure in its place would tell the server their number.

    Raises:  CheckpointError; ConfigError for a damaged key; DataError for images that do not say
             whose they are under unit group.
    """
    if plan is None:
        return None

    def noised(body: bytes) -> bytes:
        is_summed = config.secure_aggregation.mode == "on"
        return Payload.from_bytes(body).to_bytes() if is_summed else body

    num = num_records(config, num_images=len(own.images), groups=own.groups)
    try:
        check_images(config, {site: num})
    except ConfigError as error:
        _log.warning("%s", error)
    key = open_key(folder / "privacy.key")
    groups = own.groups if config.privacy.unit == "group" else None
    digest = data_digest(own.images, own.labels, key=key, groups=groups)
    keep_records(folder / "record-hashes", digest=digest, images=own.images, key=key)
    ledger = PrivacyLedger.open(folder / "privacy.jsonl")
    plans = {release.id: release.plan for release in ledger.releases()}
    KeptAnswers.take_over(folder, plan_of=plans.get, noised=noised)
    releases = Releases(
        ledger,
        kept=KeptAnswers(folder, plan=run),
        run=run,
        plan=plan,
        data=digest,
        total=total,
    )
    return SitePrivacy(
        releases=releases,
        hides_metrics=config.privacy.hides_metrics,
    )


def make_trainer(
    config: RunConfig,
    plan: PrivacyPlan | None,
    *,
    terms: SecureTerms | None,
    num_classes: int,
    device: torch.device,
) -> Trainer:
    """DP-SGD under units ``record`` and ``group``, whose steps only sum under trust ``sum``; steps
    of a classifier, whose sums a site without secure aggregation noises itself; one gradient or
    plain local steps otherwise.

    Raises:     ConfigError naming the setting; ValueError without the terms of trust ``sum``.
    """
    if config.model.network == CLASSIFIER:
        if plan is None or plan.sums is None:
            raise ValueError("expected the noise of a classifier's steps")
        summer = ClassifierSummer(config, num_classes=num_classes, grid=plan.sums.grid)
        if terms is not None:
            return summer
        return NoisedSummer(summer, noise=plan.sums.noise, entropy=partial(_entropy, config))
    if config.privacy.trust == "sum":
        if terms is None or terms.grid is None:
            raise ValueError("expected the terms of noise that the sites add together")
        return GradientSummer(config, num_classes=num_classes, device=device, grid=terms.grid)
    if plan is not None and config.privacy.is_dp_sgd:
        return PrivateTrainer(
            config,
            num_classes=num_classes,
            device=device,
            noise_multiplier=plan.noise_multiplier,
        )
    return plain_trainer(config, num_classes=num_classes, device=device)


def make_summer(
    config: RunConfig, layout: ReleaseLayout, *, terms: SecureTerms | None, seeds: SeedTree
) -> FeatureSummer | NoisedSummer:
    """Sums features in a release, by image or (unit ``group``) by person; always on the CPU, where
    the bits of one image are its own.

    Without secure aggregation it adds the noise itself.
    """
    features = FeatureMap(layout, seeds=seeds)
    by_person = config.privacy.unit == "group"
    made = summed_noise(config, terms=terms, layout=layout)
    summer = FeatureSummer(features, grid=made.grid, by_person=by_person)
    if terms is not None:
        return summer
    return NoisedSummer(summer, noise=made.noise, entropy=partial(_entropy, config))


def _entropy(config: RunConfig, of_round: SeedTree) -> Entropy:
    """Of the noise that one site adds by itself."""
    if config.privacy.noise_source == "secure":
        return _stream(os_entropy(32))
    return _stream(_seeded(of_round.child("noise-share")))


def site_noise_entropy(
    config: RunConfig, seeds: SeedTree, *, site: str
) -> Callable[[int], Entropy]:
    """Bytes for a round's share of noise: AES-256-CTR under a key of the operating system, drawn
    anew for each round; or repeatable for research."""

    def key(round_number: int) -> bytes:
        if config.privacy.noise_source == "secure":
            return os_entropy(32)
        return _seeded(seeds.child("site", site, "round", round_number, "noise-share"))

    return lambda round_number: _stream(key(round_number))


def _seeded(seeds: SeedTree) -> bytes:
    """A repeatable key, for research."""
    seed = seeds.entropy()
    return hashlib.sha256(b"seeded noise share:" + seed.to_bytes(32, "big")).digest()


def _stream(key: bytes) -> Entropy:
    cipher = Cipher(AES256(key), CTR(bytes(16))).encryptor()
    return lambda size: cipher.update(bytes(size))


def rounding_keys(config: RunConfig, seeds: SeedTree, *, site: str) -> Callable[[int], bytes]:
    """32 bytes for the stochastic rounding of a round.

    They follow from ``seeds``, the root of the site's own randomness, so that a repeated round has
    the same input, unless there is a guarantee: then they are the operating system's.
    """
    privacy = config.privacy
    if privacy.unit != "none" and privacy.noise_source == "secure":
        return lambda round_number: os_entropy(32)
    of_site = seeds.child("site", site)
    return lambda round_number: (
        of_site.child("round", round_number, "rounding").entropy().to_bytes(32, "big")
    )
