"""Builds the handler of an approved plan: this site's images, trainer, key and promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.partition import site_names
from phoenix_secure.device import pick_devices
from phoenix_secure.errors import BudgetExhausted, ConfigError
from phoenix_secure.federation.deployment.held_rosters import HeldRosters
from phoenix_secure.federation.deployment.site_budget import SiteBudget
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_parts import site_parts
from phoenix_secure.federation.deployment.site_settings import SiteSettings
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.heterogeneity.deployment import deployment_strategies
from phoenix_secure.federation.run.plan import Plan, plan_roster, require_suite
from phoenix_secure.federation.run.roster_rule import planned_roster, round_epoch
from phoenix_secure.federation.secagg.privacy_plan import continuing, plan_privacy
from phoenix_secure.federation.secagg.terms import choose_terms
from phoenix_secure.federation.site.approval import Approver
from phoenix_secure.federation.site.build import Handler, SitePlace, SiteRun, build_site
from phoenix_secure.federation.site.model_state import DiskStates
from phoenix_secure.federation.site.own_randomness import own_seeds
from phoenix_secure.federation.site.pooled_audit import Examiner, SiteAudit
from phoenix_secure.federation.site.privacy import make_summer, make_trainer
from phoenix_secure.privacy.ledger import PrivacyLedger
from phoenix_secure.rng import SeedTree
from protocol import Roster, RosterChain

__all__ = ["installer"]


def installer(
    folder: SiteFolder,
    settings: SiteSettings,
    *,
    approver: Approver,
    cancelled: threading.Event,
    rosters: Callable[[], RosterChain] | None = None,
    cache_dir: Path | None = None,
    make_examiner: Callable[[], Examiner] | None = None,
) -> Callable[[Plan], Handler]:
    """Returns the function that the gate calls once for each approved plan.

    approver    says which other plans have part of the privacy budget
    rosters     reads those that this site holds; None: from its folder
    make_examiner   makes what counts in pooled audits; without it, plans that have one are refused

    Raises (the result):    SiteFailure BUDGET where the site's privacy budget has no room,
                            REFUSED where its policy wants models that it computes itself, or
                            its owner closed the plan;
                            ConfigError or DataError when the plan cannot run on this site's
                            images; CheckpointError for a damaged record of promises, or files
                            that were lost.
    """
    identity = folder.identity(settings, folder.roster())
    read_rosters = rosters or HeldRosters(folder.path)
    images_in = default_cache_dir() if cache_dir is None else cache_dir
    budget = SiteBudget(folder, policy=settings.policy, approver=approver, cache_dir=images_in)

    def install(plan: Plan) -> Handler:
        config = plan.config
        kept = folder.kept_files()
        if plan.hash in kept.closed:
            raise SiteFailure(FailureCode.REFUSED, why="the plan was closed: site close-plans")
        kept.check()
        roster = planned_roster(plan, read_rosters())
        if roster is None:
            raise SiteFailure(FailureCode.REFUSED, why="the plan names another roster")
        if roster.key(settings.site) != identity.public_key:
            raise SiteFailure(
                FailureCode.REFUSED,
                why="the plan's roster holds another key of this site than this process has: if "
                "the keys were renewed meanwhile, start the site again",
            )
        require_suite(config, roster)
        objection = settings.policy.model_objection(config)
        if objection is not None and not folder.has_promises(plan.hash):
            raise SiteFailure(FailureCode.REFUSED, why=f"policy: {objection}")
        if config.audit.at_sites and make_examiner is None:
            raise SiteFailure(FailureCode.REFUSED, why="audit.at_sites: nothing here can attack")
        torch.set_num_threads(config.federation.threads_per_site)
        try:
            budget.require_fit_to_start(plan)
        except BudgetExhausted as error:
            raise SiteFailure(FailureCode.BUDGET, why=str(error)) from None
        seeds = SeedTree(config.seed)
        # Streams are named by the position in the roster, as in a simulation; their root is the
        # site's own.
        stream = _stream_name(roster, settings.site)
        device = pick_devices(settings.device)[0]
        strategies = deployment_strategies(config, seeds=seeds, device=device, cache_dir=images_in)
        config = _with_devices(_with_split(config, folder, plan=plan.hash), settings.devices)
        own, held_out = site_parts(
            settings, config, seeds, stream=stream, folder=folder, cache_dir=images_in
        )
        terms = None
        if config.secure_aggregation.mode == "on":
            terms = choose_terms(
                config,
                num_parameters=strategies.exchange.num_uploaded,
                layout=strategies.release,
            )
        planned = plan_privacy(
            config,
            terms=terms,
            layout=strategies.release,
            num_parameters=strategies.exchange.num_uploaded,
        )
        privacy = continuing(planned, config, budget.begun(plan))
        memory = folder.memory(plan.hash)
        return build_site(
            stream,
            own,
            run=SiteRun(
                id=plan.hash,
                config=config,
                strategies=strategies,
                terms=terms,
                rule=strategies.model_rule(terms, plan=bytes.fromhex(plan.hash)),
                privacy=privacy,
                cancelled=cancelled,
                holds_replies=True,
            ),
            place=SitePlace(
                identity=identity,
                seeds=own_seeds(folder.training_key, plan=plan.hash),
                roster=roster,
                round_roster=plan_roster(roster, plan),
                folder=folder.path,
                memory=memory,
                residuals=memory / "residuals",
                heads=folder.heads_file(plan.hash),
                promises=lambda: folder.record(plan.hash),
                plan=plan.hash,
                states=lambda: DiskStates(memory / "model", plan=bytes.fromhex(plan.hash)),
                total=settings.policy.total_budget,
                note=folder.audit().record,
                epoch=lambda: round_epoch(plan, read_rosters()),
            ),
            audited=None
            if make_examiner is None or not config.audit.at_sites
            else SiteAudit(
                examiner=make_examiner(),
                held_out=held_out,
                promises=folder.record(f"{plan.hash}-audit"),
                first=memory / "audit-first.bin",
                out=folder.path / "audits" / plan.hash,
            ),
            trainer=(
                make_trainer(
                    config,
                    privacy,
                    terms=terms,
                    num_classes=len(config.data.class_names),
                    device=device,
                )
                if strategies.release is None
                else make_summer(config, strategies.release, terms=terms, seeds=seeds)
            ),
        )

    return install


def _with_devices(config: RunConfig, devices: int) -> RunConfig:
    """``training.devices`` of a simulation says nothing about this machine: a site has its own.

    Steps of persons, and what has no steps of a network, take one.
    """
    takes_one = config.privacy.unit == "group" or config.makes_generator
    training = config.training.model_copy(update={"devices": 1 if takes_one else devices})
    return config.model_copy(update={"training": training})


def _with_split(config: RunConfig, folder: SiteFolder, *, plan: str) -> RunConfig:
    """The plan's settings, ``data.split`` spelt out.

    A private plan that names none was made before the keyed split. It may be finished with the
    split that its first rounds had, and not begun.

    Raises:     ConfigError for one that this site has not answered under yet.
    """
    if config.privacy.unit == "none" or config.data.split is not None:
        return config
    ledger = folder.path / "privacy.jsonl"
    if not ledger.exists() or not PrivacyLedger(ledger).releases(plan=plan):
        raise ConfigError(
            "the plan has privacy.unit and no data.split: an older version made it, and its "
            "guarantee would not hold for this site's folder; let the server make a new one"
        )
    data = config.data.model_copy(update={"split": "stratified"})
    return config.model_copy(update={"data": data})


def _stream_name(roster: Roster, site: str) -> str:
    """``site-01`` for the first member of the roster, and so on."""
    members = [id for id, _ in roster.members]
    return site_names(len(members))[members.index(site)]
