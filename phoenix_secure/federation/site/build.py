"""A site's handler from its images, keys and promises: the same for simulated and real sites."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence.witness import Witness
from phoenix_secure.federation.heterogeneity.run_strategies import RunStrategies
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.secagg.model_rule import ModelRule
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.federation.site.exclusions import Note, with_exclusions
from phoenix_secure.federation.site.model_state import SiteModel, StateStore
from phoenix_secure.federation.site.plaintext_once import PlaintextOnce
from phoenix_secure.federation.site.pooled_audit import (
    PooledAudit,
    SiteAudit,
    with_pooled_audit,
)
from phoenix_secure.federation.site.privacy import (
    Trainer,
    open_site_privacy,
    rounding_keys,
    site_noise_entropy,
)
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.federation.site.residuals import open_residuals
from phoenix_secure.federation.site.secure import SecureSite
from phoenix_secure.federation.site.witness import with_witness
from phoenix_secure.federation.site.worker import SiteWorker
from phoenix_secure.privacy.budget import Budget
from phoenix_secure.release.class_sums import FeatureSummer
from phoenix_secure.rng import SeedTree
from protocol import Identity, Roster

__all__ = ["Handler", "SitePlace", "SiteRun", "build_site"]

Handler = Callable[[str, bytes], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteRun:
    """The parts of a run that all sites of one process share.

    rule        how sites compute the model; None where the server sends one
    id          names the run in a site's privacy ledger
    cancelled   set when the process is asked to stop
    holds_replies  whether ``secure_aggregation.reply_after_s`` counts: not where one process holds
                   all sites
    progress    called with the site's name and a number of images after each local step
    """

    id: str
    config: RunConfig
    strategies: RunStrategies
    terms: SecureTerms | None
    rule: ModelRule | None
    privacy: PrivacyPlan | None
    cancelled: threading.Event
    progress: Callable[[str, int], object] = lambda site, num_images: None
    holds_replies: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SitePlace:
    """The private places of one site, and the budget it may spend.

    seeds         root of this site's own randomness (``own_randomness``)
    roster        as its owner signed it
    round_roster  the same members under the federation id that binds secure rounds to one plan
    folder        holds ``privacy.jsonl``, ``privacy.key`` and the kept answer
    memory        what strategies keep from round to round
    promises      the record of secure rounds; opened only where there are any
    plan          SHA-256 of what the site agreed to: the plan, or a simulation's file of settings
    states        the model as this site computed it; opened only where it computes one
    total         what all runs on this site together may spend
    note          writes to the site's own log; a simulated site has none
    epoch         reads the roster in force; None where it does not change
    """

    identity: Identity
    seeds: SeedTree
    roster: Roster
    round_roster: Roster
    folder: Path
    memory: Path
    residuals: Path
    heads: Path
    promises: Callable[[], SiteRecord]
    plan: str
    states: Callable[[], StateStore]
    total: Budget | None = None
    note: Note = lambda event, **facts: None
    epoch: Callable[[], RoundEpoch] | None = None


def build_site(
    name: str,
    own: SiteImages,
    *,
    run: SiteRun,
    place: SitePlace,
    trainer: Trainer | FeatureSummer,
    audited: SiteAudit | None = None,
) -> Handler:
    """The handler of one site's stages, from the images that it holds.

    ``name`` is the position's name (``site-01``): random streams follow it, so that a deployment
    and a simulation with the same ``place.seeds`` train alike. ``audited`` is this site's part in
    a pooled audit; None without one.

    Raises:     ConfigError or DataError when the run is not possible on these images;
                CheckpointError for a damaged record of promises.
    """
    exchange = run.strategies.exchange
    images, strategies = run.strategies.site(name, own, folder=place.memory, seeds=place.seeds)
    privacy = open_site_privacy(
        run.config,
        run.privacy,
        site=place.identity.id,
        own=own,
        folder=place.folder,
        run=run.id,
        total=place.total,
    )
    secure = model = None
    if run.terms is not None and run.rule is not None:
        model = SiteModel(
            place.identity,
            roster=place.round_roster,
            rule=run.rule,
            store=place.states(),
            num_colluders=run.terms.num_colluders,
            epoch=place.epoch,
        )
    if run.terms is not None:
        secure = SecureSite(
            place.identity,
            roster=place.round_roster,
            terms=run.terms,
            record=place.promises(),
            max_rounds=run.config.federation.rounds,
            rounding_key=rounding_keys(run.config, place.seeds, site=name),
            num_threads=run.config.federation.threads_per_site,
            releases=None if privacy is None else privacy.releases,
            noise_entropy=site_noise_entropy(run.config, place.seeds, site=name),
            residuals=open_residuals(run.config, place.residuals),
            note=partial(place.note, plan=run.id),
            model_size=exchange.num_parameters - exchange.num_personal,
            local_steps=run.config.training.local_steps or 1,
            model=model,
            epoch=place.epoch,
        )
    worker = SiteWorker(
        name,
        images=images,
        strategies=strategies,
        trainer=trainer,
        privacy=privacy,
        seeds=place.seeds,
        cancelled=run.cancelled,
        secure=secure,
        reply_after_s=run.config.secure_aggregation.reply_after_s if run.holds_replies else None,
        progress=run.progress,
    )
    trained: Handler = worker.handle if secure is not None else PlaintextOnce(worker.handle)
    if audited is not None:
        if model is None:
            raise ConfigError("audit.at_sites needs a model that every site computes")
        trained = with_pooled_audit(
            trained,
            PooledAudit.of(
                audited,
                own,
                config=run.config,
                identity=place.identity,
                roster=place.round_roster,
                model=model,
                seeds=place.seeds,
                note=partial(place.note, plan=run.id),
                epoch=place.epoch,
            ),
        )
    handle = with_exclusions(
        trained, roster=place.round_roster, note=partial(place.note, plan=run.id)
    )
    witness = Witness(
        place.heads,
        identity=place.identity,
        server_key=place.roster.server_key,
        federation=place.roster.federation_id,
        plan=place.plan,
    )
    if secure is None:
        return with_witness(handle, witness)
    return with_witness(handle, witness, settle=secure.settle)
