"""The strategies of one run, for each setting: a simulation, a server, or a site."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phoenix_secure.config import CLASSIFIER, PrivacyConfig, ReleaseConfig, RunConfig
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.sampling import build_pipeline, sample_images
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.heterogeneity.checks import check_strategies
from phoenix_secure.federation.heterogeneity.exchange import Exchange, plan_exchange, whole_exchange
from phoenix_secure.federation.heterogeneity.filtering import SelfEvaluator
from phoenix_secure.federation.heterogeneity.memory import Memory
from phoenix_secure.federation.heterogeneity.partial import PartialAggregator
from phoenix_secure.federation.heterogeneity.selection import layout_of
from phoenix_secure.federation.heterogeneity.sharing import SharedImages, mix, share_of
from phoenix_secure.federation.heterogeneity.site_round import SiteStrategies
from phoenix_secure.federation.round.aggregate import Aggregator
from phoenix_secure.federation.run.evaluation import feature_extractor
from phoenix_secure.federation.secagg.deployment_cost import Advice, advise
from phoenix_secure.federation.secagg.model_rule import ModelRule
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.release.layout import ReleaseLayout, layout_of_release
from phoenix_secure.release.scattering import Scattering
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.parameters import load_vector, to_vector

__all__ = ["RunStrategies"]


class RunStrategies:
    """The strategies that follow from the sections sharing, exchange and filtering.

    form            (channels, image size)
    load_shared     makes G; called at once when sharing is on

    release         layout of the words that travel in place of a model; None in a run of rounds

    Raises:     ConfigError or DataError naming the setting.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        form: tuple[int, int],
        num_classes: int,
        seeds: SeedTree,
        device: torch.device,
        load_shared: Callable[[], SharedImages],
    ) -> None:
        check_strategies(config)
        self.exchange: Exchange
        self._config = config
        self._form = form
        self._num_classes = num_classes
        self._seeds = seeds
        self._device = device
        self.release: ReleaseLayout | None = None
        if config.release.is_on:
            self.release = layout_of_release(
                config.release, channels=form[0], image_size=form[1], num_classes=num_classes
            )
            self.exchange = whole_exchange(self.release.num_words)
        else:
            self.exchange = plan_exchange(config.exchange, layout_of(self._network()))
        self.shared: SharedImages | None = None
        if config.sharing.source != "none":
            self.shared = load_shared()
        self._lock = threading.Lock()
        self._start: np.ndarray | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """For summary, ledger and report."""
        exchange, filtering = self.exchange, self._config.filtering
        return {
            "sharing": None if self.shared is None else self.shared.facts,
            "exchange": {
                "personal": list(self._config.exchange.personal),
                "num_personal": exchange.num_personal,
                "upload": self._config.exchange.upload,
                "num_uploaded": exchange.num_uploaded,
                **({"strategy": own} if (own := self._config.exchange.strategy) else {}),
            },
            "filtering": filtering.model_dump(mode="json") if filtering.is_on else None,
        }

    def advice(self) -> Advice:
        """What each way of exchanging would cost between machines, and the recommended one."""
        layout = self.release
        if layout is None:
            channels, image_size = self._form
            layout = layout_of_release(
                ReleaseConfig(features="hogpix", classes="labels" if self._num_classes else "none"),
                channels=channels,
                image_size=image_size,
                num_classes=self._num_classes,
            )
        network = self._network()
        return advise(
            self._config,
            num_parameters=sum(each.numel() for each in network.parameters()),
            num_words=layout.num_words,
        )

    def start_vector(self) -> np.ndarray:
        """The first global model (d,): initial weights, trained on G where there is a warm-up.

        Guarantee:  a function of settings, seed and G; computed once.
        """
        with self._lock:
            if self._start is None and self.release is not None:
                self._start = np.zeros(self.release.num_words, np.float32)
            if self._start is None:
                self._start = self._warmed_up(to_vector(self._network()))
            return self._start

    def aggregator(self, inner: Aggregator) -> Aggregator:
        """``inner``, or the same for the parameters that travel."""
        if self.exchange.is_whole:
            return inner
        return PartialAggregator(inner, exchange=self.exchange)

    def model_rule(self, terms: SecureTerms | None, *, plan: bytes) -> ModelRule | None:
        """How server and sites compute the model; None where the server sends one.

        ``plan`` (32 bytes) names the run and its settings. A release trains from no model: its one
        request holds none that a site uses.
        """
        config, exchange = self._config, self.exchange
        if (
            terms is None
            or config.secure_aggregation.broadcast != "sum"
            or self.release is not None
        ):
            return None
        return ModelRule.of(
            config,
            terms=terms,
            plan=plan,
            start=self.start_vector,
            place=lambda update, number: exchange.from_sites(update, round_number=number),
            sent=exchange.to_sites,
        )

    def site(
        self, name: str, own: SiteImages, *, folder: Path, seeds: SeedTree
    ) -> tuple[SiteImages, SiteStrategies]:
        """The training images of site ``name``, and its strategies.

        ``folder`` is for its memory, ``seeds`` the root of its own randomness.

        A site with fewer than 2 (nearest_k + 1) images has too few to evaluate itself and never
        refuses.
        """
        settings = self._config
        seeds = seeds.child("site", name)
        judge = None
        if settings.filtering.is_on:
            own, reference = self._reference(own, rng=seeds.child("held-back").numpy())
            judge = None if reference is None else self._judge(reference)
        images = own
        if self.shared is not None:
            share = share_of(
                self.shared.images,
                alpha=settings.sharing.alpha,
                rng=seeds.child("share").numpy(),
            )
            images = mix(own, share)
        has_memory = (
            self.exchange.num_personal > 0
            or judge is not None
            or settings.training.control_variates
        )
        strategies = SiteStrategies(
            settings,
            exchange=self.exchange,
            memory=self.memory(folder) if has_memory else None,
            start=self._personal_start,
            num_images=len(own.images),
            judge=judge,
        )
        return images, strategies

    def memory(self, folder: Path) -> Memory:
        """The memory that a site keeps in ``folder``."""
        # One more than the server's checkpoints: resume may start from the oldest of those.
        return Memory(folder, keep=self._config.output.keep_checkpoints + 1)

    def _personal_start(self) -> np.ndarray:
        if self.exchange.num_personal == 0:
            return np.empty(0, np.float32)
        personal: np.ndarray = self.start_vector()[self.exchange.personal]
        return personal

    def _warmed_up(self, initial: np.ndarray) -> np.ndarray:
        steps = self._config.sharing.warmup_steps
        if self.shared is None or steps == 0:
            return initial
        # G is public or paid for: no noise. One "round" of so many steps, with its own decay.
        warmup = self._config.model_copy(
            update={
                "privacy": PrivacyConfig(),
                "training": self._config.training.model_copy(
                    update={"local_steps": steps, "local_epochs": None, "proximal_mu": 0.0}
                ),
                "federation": self._config.federation.model_copy(update={"rounds": 1}),
            }
        )
        trainer = LocalTrainer(warmup, num_classes=self._num_classes, device=self._device)
        update = trainer.train(
            initial, self.shared.images, round_number=1, seeds=self._seeds.child("warm-up")
        )
        start: np.ndarray = initial + update.delta
        return start

    def _reference(
        self, own: SiteImages, *, rng: np.random.Generator
    ) -> tuple[SiteImages, SiteImages | None]:
        """The images to train on, and those to evaluate against."""
        settings = self._config.filtering
        if settings.reference == "shared":
            shared = None if self.shared is None else self.shared.images
            if shared is None or len(shared.images) <= settings.nearest_k:
                raise ConfigError(
                    "filtering.reference shared needs more shared images than "
                    "filtering.nearest_k: raise sharing.beta"
                )
            first = np.arange(min(len(shared.images), settings.num_images))
            return own, shared.take(first)
        smallest = settings.nearest_k + 1
        if len(own.images) < 2 * smallest:
            return own, None
        size = max(smallest, round(settings.held_back * len(own.images)))
        order = rng.permutation(len(own.images))
        judged_by, trained_on = np.sort(order[:size]), np.sort(order[size:])
        return own.take(trained_on), own.take(judged_by[: settings.num_images])

    def _judge(self, reference: SiteImages) -> SelfEvaluator:
        settings = self._config
        labels = None
        if settings.model.class_conditional and reference.labels is not None:
            labels = torch.from_numpy(reference.labels.copy())
        sampling = settings.sampling.model_copy(update={"num_steps": settings.filtering.num_steps})

        def draw(parameters: np.ndarray, round_number: int) -> np.ndarray:
            network = self._network().to(self._device)
            load_vector(network, parameters)
            return sample_images(
                build_pipeline(network, settings),
                num_images=len(reference.images),
                sampling=sampling,
                # The same noise at every site: scores differ by the models alone.
                generator=self._seeds.child("filtering", round_number).torch(),
                class_labels=labels,
            )

        return SelfEvaluator(
            settings.filtering,
            reference=to_unit_range(reference.images),
            extractor=self._extractor,
            draw=draw,
        )

    @cached_property
    def _extractor(self) -> Any:
        return feature_extractor(self._config.evaluation, device=self._device)

    def _network(self) -> torch.nn.Module:
        """The network with the run's initial weights."""
        channels, image_size = self._form
        if self._config.model.network == CLASSIFIER:
            size = Scattering(channels=channels, image_size=image_size).size
            return torch.nn.ParameterList([torch.zeros(size, self._num_classes)])
        network: torch.nn.Module = build_unet(
            self._config.model,
            image_size=image_size,
            channels=channels,
            num_classes=self._num_classes,
            seeds=self._seeds,
        )
        return network
