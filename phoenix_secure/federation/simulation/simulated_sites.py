"""Simulation of a federation: images are partitioned, and sites train as threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phoenix_secure.config import CLASSIFIER, RunConfig
from phoenix_secure.data.canaries import write_canaries
from phoenix_secure.data.partition import DataPartition, partition_images, save_parts
from phoenix_secure.data.partition_plot import save_partition_plot
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.split import save_split
from phoenix_secure.device import num_cores, pick_devices
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.engines.client_app import client_app
from phoenix_secure.federation.engines.exchange import Engine
from phoenix_secure.federation.engines.in_process import in_process_engine
from phoenix_secure.federation.heterogeneity.memory import Memory
from phoenix_secure.federation.heterogeneity.personal_models import PersonalModels, personal_state
from phoenix_secure.federation.heterogeneity.run_strategies import RunStrategies
from phoenix_secure.federation.heterogeneity.sharing import SharedImages, load_shared, shared_size
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.evaluation import Evaluator, evaluator_of
from phoenix_secure.federation.run.folder import RunFolder, settings_hash
from phoenix_secure.federation.run.released_model import ReleasedModel
from phoenix_secure.federation.run.sampling import GlobalModel
from phoenix_secure.federation.run.selected_model import RunModel, SelectedModel
from phoenix_secure.federation.run.start import with_start
from phoenix_secure.federation.run.summary import DeploymentRecord
from phoenix_secure.federation.secagg.keys import RunKeys
from phoenix_secure.federation.secagg.model_rule import ModelRule
from phoenix_secure.federation.secagg.privacy_plan import (
    PrivacyPlan,
    check_images,
    continuing,
    num_records,
    plan_privacy,
)
from phoenix_secure.federation.secagg.stated_guarantee import guarantee_of
from phoenix_secure.federation.secagg.sum_step import KnownState
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms, summed_noise
from phoenix_secure.federation.server.attempt import simulation_timeouts
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.model_chain import last_summed
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.federation.server.sums import last_confirmed
from phoenix_secure.federation.simulation.parties import (
    ImagesTrained,
    create_parties,
    local_witnesses,
    place_of,
    spent_events,
)
from phoenix_secure.federation.site.build import Handler, SiteRun, build_site
from phoenix_secure.federation.site.privacy import Trainer, make_summer, make_trainer
from phoenix_secure.files import sha256_of
from phoenix_secure.memory import keep_freed_memory
from phoenix_secure.privacy.guarantee import Guarantee
from phoenix_secure.release.class_sums import FeatureSummer
from phoenix_secure.rng import SeedTree
from protocol.suite import Suite

__all__ = ["SimulatedSites"]


class SimulatedSites:
    """The sites of a simulation (a ``server.backend.Backend``).

    images_trained   grows while the sites train: for progress bars

    Raises:     ConfigError or DataError for whatever is wrong with settings or images.
    """

    # Sites start again from what the run resumes from, and share each step that one of them took.
    sites_forget = True

    def __init__(self, config: RunConfig, *, cache_dir: Path) -> None:
        torch.set_num_threads(config.federation.threads_per_site)
        if config.audit.at_sites:
            raise ConfigError(
                "audit.at_sites is for deployments: in a simulation set audit.profile=fast"
            )
        config = with_start(config.with_split())
        self.config = config
        keep_freed_memory()
        self.devices = pick_devices(config.device)
        self.images_trained = ImagesTrained()
        self._seeds = SeedTree(config.seed)
        self.partition: DataPartition = partition_images(
            config, seeds=self._seeds, cache_dir=cache_dir
        )
        images = self.partition.image_set
        self.strategies = RunStrategies(
            config,
            form=(images.channels, images.image_size),
            num_classes=images.num_classes,
            seeds=self._seeds,
            device=self.devices[0],
            load_shared=lambda: self._shared_images(cache_dir),
        )
        self.terms: SecureTerms | None = None
        if config.secure_aggregation.mode == "on":
            self.terms = choose_terms(
                config,
                num_parameters=self.strategies.exchange.num_uploaded,
                largest_site=max(len(part) for part in self.partition.parts.values()),
                layout=self.strategies.release,
            )
        self.rule: ModelRule | None = self.strategies.model_rule(
            self.terms, plan=bytes.fromhex(settings_hash(config))
        )
        self.model = self._model()
        self.privacy: PrivacyPlan | None = plan_privacy(
            config,
            terms=self.terms,
            layout=self.strategies.release,
            num_parameters=self.strategies.exchange.num_uploaded,
        )
        groups = images.groups
        check_images(
            config,
            {
                name: num_records(
                    config,
                    num_images=len(part),
                    groups=None if groups is None else groups[part],
                )
                for name, part in self.partition.parts.items()
            },
        )
        self.evaluator: Evaluator | None = evaluator_of(
            config, self.partition, seeds=self._seeds, device=self.devices[0]
        )
        self.deployment: DeploymentRecord | None = None
        self.timeouts = simulation_timeouts(config)
        self.witness_every = 1

    def _model(self) -> RunModel:
        images, layout = self.partition.image_set, self.strategies.release
        if layout is not None:
            names = self.config.release.class_names
            if names and names != images.class_names:
                raise ConfigError(
                    f"release.class_names are not the classes of {images.name}: leave them out, "
                    f"or set {list(images.class_names)}"
                )
            return ReleasedModel(
                self.config,
                layout=layout,
                made=summed_noise(self.config, terms=self.terms, layout=layout),
                class_names=images.class_names,
                seeds=self._seeds,
                device=self.devices[0],
            )
        if self.config.model.network == CLASSIFIER:
            return SelectedModel(
                self.config,
                form=(images.channels, images.image_size),
                class_names=images.class_names,
                seeds=self._seeds,
                device=self.devices[0],
            )
        return GlobalModel(
            self.config,
            image_size=images.image_size,
            channels=images.channels,
            class_names=images.class_names,
            seeds=self._seeds,
            device=self.devices[0],
        )

    def _shared_images(self, cache_dir: Path) -> SharedImages:
        members = np.concatenate(list(self.partition.parts.values()))
        images = self.partition.image_set
        all_sites = images.take(members)
        return load_shared(
            self.config,
            size=shared_size(self.config.sharing, num_site_images=len(members)),
            form=(images.channels, images.image_size),
            class_names=images.class_names,
            seeds=self._seeds,
            cache_dir=cache_dir,
            site_images=SiteImages.of(all_sites),
        )

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self.partition.parts)

    @property
    def num_workers(self) -> int:
        """Sites trained at once; one where it takes several devices by itself."""
        if self.config.training.devices > 1:
            return 1
        default = num_cores() if self.devices[0].type == "cpu" else len(self.devices)
        wanted = self.config.federation.workers or default
        return min(wanted, self.config.partition.num_sites)

    def prepare(self, folder: RunFolder) -> None:
        suite = Suite(self.config.secure_aggregation.suite)
        create_parties(folder, sites=self.sites, secure=self.terms is not None, suite=suite)
        save_split(self.partition.split, folder.split_file)
        save_parts(self.partition, folder.path / "sites.npz")
        if self.partition.canaries is not None:
            write_canaries(self.partition.canaries, folder.path / "canaries.npz")
        save_partition_plot(
            self.partition.image_set,
            list(self.partition.parts.values()),
            path=folder.path / "partition.png",
            site_names=list(self.partition.parts),
        )

    def check(self, folder: RunFolder) -> None:
        folder.check_split(self.partition.split, image_set=self.partition.image_set)

    def party(self, folder: RunFolder) -> ServerParty:
        keys = self._keys(folder)
        return ServerParty(identity=keys.server, roster=keys.roster, round_roster=keys.roster)

    def connect(self, folder: RunFolder, *, state: ServerState) -> Engine:
        """Start the sites as threads of this process."""
        spent = spent_events(folder, sites=self.sites)
        begun = (event for events in spent.values() for event in events)
        self.privacy = continuing(self.privacy, self.config, begun)
        if self.privacy is None:
            # Under privacy a round that is repeated is not trained again: its answer was kept, and
            # so is what the site remembers of it. Nor is a round whose model the sites confirmed.
            done = last_confirmed(folder.server_sums, round_number=state.round_number)
            for site in self.sites:
                self._memory(folder, site).forget_after(done)
        cancelled = threading.Event()
        handlers = self._handlers(folder, state=state, cancelled=cancelled)
        return in_process_engine(
            client_app(lambda site, stage, body: handlers[site](stage, body)),
            sites=list(handlers),
            num_workers=self.num_workers,
            on_close=cancelled.set,
        )

    def _handlers(
        self, folder: RunFolder, *, state: ServerState, cancelled: threading.Event
    ) -> dict[str, Handler]:
        """A handler for each site, which goes on from ``state``; sites share trainers, one a
        device."""
        first = None
        if self.rule is not None:
            given_up = SecureJournal(folder.server_rounds).given_up
            first = KnownState.of(last_summed(state, given_up=given_up))
        run = SiteRun(
            id="this run",
            config=self.config,
            strategies=self.strategies,
            terms=self.terms,
            rule=self.rule,
            privacy=self.privacy,
            cancelled=cancelled,
            progress=self.images_trained,
        )
        keys = self._keys(folder)
        num_classes = self.partition.image_set.num_classes
        trainers: list[Trainer | FeatureSummer] = [
            make_summer(self.config, self.strategies.release, terms=self.terms, seeds=self._seeds)
            if self.strategies.release is not None
            else make_trainer(
                self.config,
                self.privacy,
                terms=self.terms,
                num_classes=num_classes,
                device=device,
            )
            for device in self.devices
        ]
        return {
            name: build_site(
                name,
                self.partition.site_images(name),
                run=run,
                place=place_of(folder, name, keys=keys, seeds=self.site_seeds(name), first=first),
                trainer=trainers[number % len(trainers)],
            )
            for number, name in enumerate(self.sites)
        }

    def site_seeds(self, name: str) -> SeedTree:
        """The root of a site's randomness: the run's seed. One process keeps no secret from itself,
        and its runs repeat."""
        return self._seeds

    def witnesses(self, folder: RunFolder) -> Engine | None:
        return local_witnesses(folder.path, self._keys(folder), plan=sha256_of(folder.config_file))

    def guarantee(self, folder: RunFolder | None = None) -> Guarantee:
        spent = {}
        if folder is not None and self.privacy is not None:
            spent = spent_events(folder, sites=self.sites)
        return guarantee_of(
            self.config, self.privacy, spent=spent, dealt=self.config.partition, terms=self.terms
        )

    def _keys(self, folder: RunFolder) -> RunKeys:
        return RunKeys.load(folder.path, sites=self.sites)

    def _memory(self, folder: RunFolder, site: str) -> Memory:
        return self.strategies.memory(folder.path / "sites" / site / "memory")

    def personal_models(self, folder: RunFolder, state: ServerState) -> PersonalModels | None:
        """All sites' personal models, or None where nothing is personal.

        For research: a deployed site can only sample from its own.
        """
        exchange = self.strategies.exchange
        if exchange.num_personal == 0 or not isinstance(self.model, GlobalModel):
            return None
        states = {
            site: personal_state(
                state,
                exchange=exchange,
                remembered=self._memory(folder, site).before(state.round_number + 1),
            )
            for site in self.sites
        }
        weights = {site: len(part) for site, part in self.partition.parts.items()}
        return PersonalModels(self.model, states=states, weights=weights)

    def personal_quality(self, folder: RunFolder, state: ServerState) -> dict[str, Any] | None:
        """Export the personal models into their sites' folders, and evaluate them together."""
        models = self.personal_models(folder, state)
        if models is None:
            return None
        for site in self.sites:
            models.use(site)
            self.model.export(folder.path / "sites" / site / "model")
        quality = None if self.evaluator is None else self.evaluator.quality_of(models)
        self.model.use(state)
        return quality
