"""The sites of a deployment: asked through Flower, after their owners approved the plan.

The server holds no image, so it evaluates nothing (``phoenix-secure evaluate`` does, where somebody
has reference images).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from phoenix_secure.config import CLASSIFIER, RunConfig
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.device import pick_devices
from phoenix_secure.errors import CheckpointError, ConfigError, TrainingError
from phoenix_secure.evidence import Event
from phoenix_secure.federation.deployment.held_rosters import HeldRosters
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.engines.bundle import bundle_hash, make_bundle
from phoenix_secure.federation.engines.exchange import Engine, Failure
from phoenix_secure.federation.engines.flower import FlowerEngine
from phoenix_secure.federation.heterogeneity.deployment import deployment_strategies
from phoenix_secure.federation.round.stages import PLAN_STAGE
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.evaluation import Evaluator
from phoenix_secure.federation.run.evidence import RunEvidence
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.plan import Plan, plan_roster
from phoenix_secure.federation.run.released_model import ReleasedModel
from phoenix_secure.federation.run.roster_rule import roster_objection, round_epoch
from phoenix_secure.federation.run.sampling import GlobalModel
from phoenix_secure.federation.run.selected_model import RunModel, SelectedModel
from phoenix_secure.federation.run.start import with_start
from phoenix_secure.federation.run.summary import DeploymentRecord
from phoenix_secure.federation.secagg.privacy_plan import continuing, plan_privacy
from phoenix_secure.federation.secagg.stated_guarantee import guarantee_of
from phoenix_secure.federation.secagg.terms import choose_terms, summed_noise
from phoenix_secure.federation.server.attempt import deployment_timeouts
from phoenix_secure.federation.server.party import RostersInForce, ServerParty
from phoenix_secure.privacy.events import event_from_dict
from phoenix_secure.privacy.guarantee import Guarantee
from phoenix_secure.rng import SeedTree

__all__ = ["DeployedSites", "planned_roster_hash"]

_PLAN_DEADLINE_S = 300.0


class DeployedSites:
    """The sites of the federation in ``server`` (a ``server.backend.Backend``).

    make_engine   what reaches the sites under a plan's hash, in place of Flower
    is_carried    whether people carry the messages: the offer of the plan then has the times of a
                  stage, in place of minutes
    roster_hash   of the roster that the plan of an earlier start names; None: the one in force

    Raises:     ConfigError for settings that make no sense in a deployment, or a plan that does not
                go on under the roster in force.
    """

    # A stage over a network takes seconds: the sites sign every so many rounds.
    witness_every = 10
    sites_forget = False

    def __init__(
        self,
        config: RunConfig,
        *,
        server: ServerFolder,
        make_engine: Callable[[str], Engine] | None = None,
        is_carried: bool = False,
        roster_hash: bytes | None = None,
    ) -> None:
        self._is_carried = is_carried
        torch.set_num_threads(config.federation.threads_per_site)
        config = with_start(config.with_split())
        self.config = config
        self._server = server
        self._settings = server.settings()
        self._rosters = HeldRosters(server.path)
        chain = self._rosters()
        found = chain.current if roster_hash is None else chain.named(roster_hash)
        if found is None:
            raise ConfigError(
                "the run began under a roster that this server does not have: name the federation "
                "of the run, or restore roster.bin from a copy"
            )
        self._roster = found
        self._identity = server.identity(chain.current)
        self._make_engine = make_engine or self._flower_engine
        self._bundle = make_bundle()
        self.plan = Plan.make(config, roster=self._roster, bundle_hash=bundle_hash(self._bundle))
        self.deployment: DeploymentRecord | None = DeploymentRecord(
            federation=self.plan.federation,
            plan=self.plan.hash,
            roster=self.plan.roster_hash,
            bundle=self.plan.bundle_hash,
        )
        if (objection := roster_objection(self.plan, chain)) is not None:
            raise ConfigError(objection)
        _check_settings(config)
        device, seeds = pick_devices(config.device)[0], SeedTree(config.seed)
        self.strategies = deployment_strategies(
            config, seeds=seeds, device=device, cache_dir=default_cache_dir()
        )
        self.terms = None
        if config.secure_aggregation.mode == "on":
            self.terms = choose_terms(
                config,
                num_parameters=self.strategies.exchange.num_uploaded,
                layout=self.strategies.release,
            )
        self.rule = self.strategies.model_rule(self.terms, plan=bytes.fromhex(self.plan.hash))
        self.model = self._model(seeds=seeds, device=device)
        self._planned = plan_privacy(
            config,
            terms=self.terms,
            layout=self.strategies.release,
            num_parameters=self.strategies.exchange.num_uploaded,
        )
        self.privacy = self._planned
        self.evaluator: Evaluator | None = None
        self.timeouts = deployment_timeouts(config)

    def _model(self, *, seeds: SeedTree, device: torch.device) -> RunModel:
        config, layout = self.config, self.strategies.release
        if layout is not None:
            return ReleasedModel(
                config,
                layout=layout,
                made=summed_noise(config, terms=self.terms, layout=layout),
                class_names=config.release.class_names,
                seeds=seeds,
                device=device,
            )
        if config.model.network == CLASSIFIER:
            return SelectedModel(
                config,
                form=(config.data.channels or 0, config.data.image_size or 0),
                class_names=config.data.class_names,
                seeds=seeds,
                device=device,
            )
        return GlobalModel(
            config,
            image_size=config.data.image_size or 0,
            channels=config.data.channels or 0,
            class_names=config.data.class_names,
            seeds=seeds,
            device=device,
        )

    @property
    def sites(self) -> tuple[str, ...]:
        """Every member of the plan's roster."""
        return tuple(site for site, _ in self._roster.members)

    def prepare(self, folder: RunFolder) -> None:
        folder.write_json("federation.json", self._facts())

    def check(self, folder: RunFolder) -> None:
        """The sites check their own images."""
        self._continue(folder)

    def party(self, folder: RunFolder) -> ServerParty:
        return ServerParty(
            identity=self._identity,
            roster=self._roster,
            round_roster=plan_roster(self._roster, self.plan),
            look=self._look,
            plan=self.plan.to_bytes(),
        )

    def _look(self) -> RostersInForce:
        chain = self._rosters()
        if (objection := roster_objection(self.plan, chain)) is not None:
            raise TrainingError(objection)
        return RostersInForce(chain=chain, epoch=round_epoch(self.plan, chain))

    def connect(self, folder: RunFolder, *, state: ServerState) -> Engine:
        """Offer the plan to the sites that can be reached."""
        self._continue(folder)
        engine = self._make_engine(self.plan.hash)
        try:
            self._offer_plan(engine)
        except BaseException:
            engine.close()
            raise
        return engine

    def witnesses(self, folder: RunFolder) -> Engine | None:
        """None: the sites signed after the last round."""
        return None

    def guarantee(self, folder: RunFolder | None = None) -> Guarantee:
        """The guarantee as planned; what each site has spent is in its own ledger alone."""
        return guarantee_of(self.config, self.privacy, terms=self.terms)

    def personal_quality(self, folder: RunFolder, state: ServerState) -> dict[str, Any] | None:
        """None: each site alone has its personal model."""
        return None

    def _continue(self, folder: RunFolder) -> None:
        """Record, and print, no less than a site may spend in the rest of a run.

        Sites that have begun go on with their noise, which an earlier version may have calibrated;
        others begin with this version's. Of the two the one with less noise is everybody's bound.
        """
        planned = self._planned
        if planned is None:
            return
        evidence = RunEvidence.open(folder, identity=self._identity)
        begun = [event_from_dict(entry.facts["mechanism"]) for entry in evidence.of(Event.PRIVACY)]
        plans = [continuing(planned, self.config, [event]) or planned for event in set(begun)]
        self.privacy = min([planned, *plans], key=lambda plan: plan.noise_multiplier)

    def _facts(self) -> dict[str, Any]:
        return {
            "federation": self.plan.federation,
            "plan": self.plan.hash,
            "roster": self.plan.roster_hash,
            "bundle": self.plan.bundle_hash,
            "secure_aggregation": self.config.secure_aggregation.mode,
            "strategies": self.strategies.facts,
            "terms": None if self.terms is None else self.terms.record.to_dict(),
        }

    def _offer_plan(self, engine: Engine) -> None:
        """Send the plan to every site that can be reached, and see who takes part.

        Raises:     TrainingError naming the sites that refused, with what they can do.
        """
        removed = self._look().epoch.removed
        online = [site for site in engine.sites if site not in removed]
        needed = self.config.federation.min_sites
        if self.terms is not None:
            needed = max(needed, self.terms.threshold)
        answers = engine.exchange(
            PLAN_STAGE,
            dict.fromkeys(online, self.plan.to_bytes()),
            deadline_s=self.timeouts.stage_deadline_s if self._is_carried else _PLAN_DEADLINE_S,
            quorum=needed if self._is_carried else None,
            grace_s=self.timeouts.grace_s if self._is_carried else 0.0,
        )
        away = {site: "not connected" for site in self.sites if site not in online}
        missing = (
            away
            | dict(removed)
            | {
                site: answer.code.value
                for site, answer in answers.items()
                if isinstance(answer, Failure)
            }
        )
        ready = len(self.sites) - len(missing)
        if ready < needed:
            listed = ", ".join(f"{site}: {why}" for site, why in sorted(missing.items()))
            raise TrainingError(
                f"plan {self.plan.hash}: {ready} of {len(self.sites)} sites take part and "
                f"{needed} are needed ({listed}). Where it says refused, the owner can read why "
                "with `phoenix-secure site log` and sign with `phoenix-secure site approve`; "
                "then resume"
            )

    def _flower_engine(self, session: str) -> Engine:
        return FlowerEngine(
            self._server.superlink(self._settings),
            nodes=self._server.nodes(self._rosters().current),
            session=session,
            bundle=self._bundle,
            gather_s=self._settings.gather_s,
        )


def planned_roster_hash(folder: RunFolder) -> bytes | None:
    """The hash of the roster that the run in ``folder`` planned with; None before it did.

    Raises:     CheckpointError for a damaged file.
    """
    path = folder.path / "federation.json"
    try:
        return bytes.fromhex(json.loads(path.read_bytes())["roster"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: restore it from a copy") from error


def _check_settings(config: RunConfig) -> None:
    if config.evaluation.num_images > 0:
        raise ConfigError(
            "the server of a federation has no images to evaluate with: set "
            "evaluation.num_images=0, and use `phoenix-secure evaluate` afterwards"
        )
    if config.audit.profile != "none":
        raise ConfigError(
            "the server of a federation has no members' images to attack with: set "
            "audit.profile=none, and use `phoenix-secure audit` where the images are"
        )
