"""All settings of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from phoenix_secure.config.audit import AuditConfig
from phoenix_secure.config.federation import EmaConfig, FederationConfig
from phoenix_secure.config.images import DataConfig, PartitionConfig
from phoenix_secure.config.network import CLASSIFIER, DiffusionConfig, ModelConfig
from phoenix_secure.config.output import EvaluationConfig, OutputConfig, SamplingConfig
from phoenix_secure.config.privacy import PrivacyConfig
from phoenix_secure.config.release import ReleaseConfig
from phoenix_secure.config.section import Section
from phoenix_secure.config.secure_aggregation import SecureAggregationConfig
from phoenix_secure.config.strategies import ExchangeConfig, FilteringConfig, SharingConfig
from phoenix_secure.config.training import TrainingConfig

__all__ = ["RunConfig"]


class RunConfig(Section):
    """All settings of one run."""

    seed: int = Field(
        0, ge=0, lt=2**63, description="[1] Root of every reproducible random stream."
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="[name] auto (CUDA, else CPU), cpu, cuda (all GPUs in turn), or cuda:N."
    )
    data: DataConfig = Field(DataConfig(), description="Images.")
    partition: PartitionConfig = Field(PartitionConfig(), description="The data partition.")
    model: ModelConfig = Field(ModelConfig(), description="The network.")
    diffusion: DiffusionConfig = Field(DiffusionConfig(), description="The noising process.")
    training: TrainingConfig = Field(TrainingConfig(), description="Work at a site.")
    federation: FederationConfig = Field(FederationConfig(), description="Rounds and server.")
    secure_aggregation: SecureAggregationConfig = Field(
        SecureAggregationConfig(), description="Secure aggregation of the updates."
    )
    privacy: PrivacyConfig = Field(PrivacyConfig(), description="Differential privacy.")
    # Unwritten where it is off: plans and run folders from before it keep their bytes.
    release: ReleaseConfig = Field(
        ReleaseConfig(),
        exclude_if=lambda release: not release.is_on,
        description="One noised release of features in place of rounds.",
    )
    sharing: SharingConfig = Field(SharingConfig(), description="Images that all may see.")
    exchange: ExchangeConfig = Field(ExchangeConfig(), description="Which parameters travel.")
    filtering: FilteringConfig = Field(FilteringConfig(), description="Sites that sit out.")
    ema: EmaConfig = Field(EmaConfig(), description="Averaged model.")
    sampling: SamplingConfig = Field(SamplingConfig(), description="Sampling images.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="Quality of samples.")
    output: OutputConfig = Field(OutputConfig(), description="Files.")
    audit: AuditConfig = Field(AuditConfig(), description="Attacks on the finished model.")

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.diffusion.prediction == "edm" and self.sampling.sampler == "ddpm":
            raise ValueError(
                "sampling.sampler ddpm is not defined for diffusion.prediction edm: use ddim"
            )
        if (
            self.sampling.num_steps > self.diffusion.num_timesteps
            and self.diffusion.prediction != "edm"
        ):
            raise ValueError(
                f"sampling.num_steps = {self.sampling.num_steps} exceeds "
                f"diffusion.num_timesteps = {self.diffusion.num_timesteps}: lower it"
            )
        if self.federation.min_sites > self.partition.num_sites:
            raise ValueError(
                f"federation.min_sites = {self.federation.min_sites} exceeds "
                f"partition.num_sites = {self.partition.num_sites}: lower it"
            )
        held_s = self.secure_aggregation.reply_after_s
        if held_s is not None and held_s >= self.federation.deadline_s:
            raise ValueError(
                f"secure_aggregation.reply_after_s = {held_s:g} reaches federation.deadline_s = "
                f"{self.federation.deadline_s:g}, when the stage closes: lower it"
            )
        if self.privacy.unit != "none" and self.data.split == "stratified":
            raise ValueError(
                "data.split stratified makes the role of one image depend on all others, so that "
                "no guarantee would hold for the folder: leave it out, or set it to keyed"
            )
        if self.privacy.unit == "group" and self.data.group is None:
            raise ValueError(
                "privacy.unit group protects persons, and nothing says whose the images are: set "
                "data.group (folder:1, column:patient_id, array:patient, dicom:PatientID or file), "
                "or privacy.unit=record for single images"
            )
        if self.privacy.with_start and self.model.init_from is None:
            raise ValueError("privacy.with_start counts an earlier run: name it in model.init_from")
        if self.privacy.unit != "none":
            self.data.require_fixed_window("under privacy.unit one image would move it for all")
        if self.data.fraction < 1 and self.with_split().data.split != "keyed":
            raise ValueError("data.fraction needs data.split=keyed; or use data.max_images")
        return self

    @model_validator(mode="after")
    def _devices_share_steps(self) -> Self:
        """Several devices share the steps of networks, one site after the other."""
        if self.training.devices == 1:
            return self
        needed: dict[str, tuple[object, object]] = {
            "federation.workers": (self.federation.workers or 1, 1),
        }
        if self.privacy.unit == "group":
            needed["privacy.unit"] = self.privacy.unit, "record"
        _require(needed, by=f"training.devices={self.training.devices}")
        if self.makes_generator:
            raise ValueError(
                "training.devices is for networks that are trained step by step: leave it out of a "
                "release or a classifier"
            )
        return self

    @model_validator(mode="after")
    def _whole_sums_alone(self) -> Self:
        """On the k-regular graph a server that chooses who vanishes could open a part of a sum.

        Images noised at their own site stand that; shares of noise, and counts without any, are
        safe in the whole sum alone.
        """
        secure = self.secure_aggregation
        if secure.mode == "off" or secure.graph == "complete":
            return self
        needed: dict[str, tuple[object, object]] = {
            "privacy.trust": (self.privacy.trust, "site-local"),
            "audit.at_sites": (self.audit.at_sites, False),
        }
        shares = "shares of noise are counted over whole sums, and parts of one could be opened"
        why = {"privacy.trust": shares, "privacy.unit": shares}
        if self.privacy.unit == "site":
            needed["privacy.unit"] = self.privacy.unit, "record"
        _require(needed, by="secure_aggregation.graph=regular, a weaker graph,", why=why)
        return self

    @model_validator(mode="after")
    def _release_alone(self) -> Self:
        """A release is one full pass: whatever belongs to rounds of training is refused."""
        if not self.release.is_on:
            if self.privacy.trust == "sum" and self.federation.exchange != "gradients":
                raise ValueError(
                    "privacy.trust sum is for a release or for sums of gradients: set "
                    "release.features or federation.exchange=gradients, or leave it out"
                )
            return self
        if self.release.is_first_of_two:
            return self._two_phases()
        needed = {
            "privacy.unit": (self.privacy.unit, self.privacy.record_kind),
            "federation.rounds": (self.federation.rounds, 1),
            "federation.participation": (self.federation.participation, 1.0),
            "federation.server_optimizer": (self.federation.server_optimizer, "fedavg"),
            "federation.server_learning_rate": (self.federation.server_learning_rate, 1.0),
            "privacy.release_metrics": (self.privacy.release_metrics, False),
            "sharing.source": (self.sharing.source, "none"),
            "exchange.personal": (self.exchange.personal, ()),
            "exchange.upload": (self.exchange.upload, "all"),
            "exchange.error_feedback": (self.exchange.error_feedback, False),
            "exchange.strategy": (self.exchange.strategy, None),
            "filtering.threshold": (self.filtering.threshold, 0.0),
            "audit.canaries": (self.audit.canaries, 0),
        }
        if self.privacy.trust == "sum":
            needed["secure_aggregation.mode"] = self.secure_aggregation.mode, "on"
        _require(needed, by="a release (release.features)")
        return self

    def _two_phases(self) -> Self:
        """A release and the steps that follow must both be runs."""
        is_classifier = self.model.network == CLASSIFIER
        needed = {
            "release.then": (self.release.then, "none" if is_classifier else "ddpm"),
            "privacy.unit": (self.privacy.unit, "record"),
            "model.init_from": (self.model.init_from, None),
            "privacy.noise_multiplier": (self.privacy.noise_multiplier, None),
        }
        if is_classifier:
            needed["release.classes"] = self.release.classes, "labels"
        _require(needed, by="release.share below 1")
        if self.release.then_steps is None and not is_classifier:
            raise ValueError("release.share below 1 needs release.then_steps, such as 2000")
        self.release_phase()
        self.steps_phase(None)
        return self

    def release_phase(self) -> RunConfig:
        """The first of two phases: a release, and a DDPM trained on its images."""
        values = self.model_dump(mode="json")
        kept = {
            name: value
            for name, value in values["federation"].items()
            if name in ("workers", "threads_per_site", "deadline_s", "min_sites")
        }
        values |= {
            "federation": {**kept, "rounds": 1},
            "evaluation": values["evaluation"] | {"num_images": 0},
            "audit": values["audit"] | {"profile": "none", "canaries": 0},
        }
        if self.model.network == CLASSIFIER:
            values.pop("model")  # the release has no network
            values["sampling"].pop("refine_steps", None)
        values["output"] |= {"report": False, "samples_every_rounds": 0}
        values["privacy"] |= {"epsilon": self.release.share * (self.privacy.epsilon or 0)}
        values["release"] |= {"share": 1.0}
        return RunConfig.model_validate(values)

    def steps_phase(self, start: str | None) -> RunConfig:
        """The second of two phases: DP-SGD from the model of the run in the folder ``start``, whose
        spending counts; from nothing, and with the whole budget, without one."""
        values = self.model_dump(mode="json")
        values.pop("release")
        if start is not None:
            values["model"] |= {"init_from": start}
            values["privacy"] |= {"with_start": True}
        return RunConfig.model_validate(values)

    @model_validator(mode="after")
    def _steps_alone(self) -> Self:
        """A round of gradients is one step of the server's optimizer: whatever belongs to local
        training is refused, and so is what would have no part in it."""
        is_classifier = self.model.network == CLASSIFIER
        if is_classifier and not self.release.is_first_of_two:
            self._classifier_alone()
        if self.sampling.refine_steps and not is_classifier:
            raise ValueError(
                f"sampling.refine_steps needs model.network={CLASSIFIER}, which reads the images"
            )
        if self.federation.exchange != "gradients" or self.release.is_first_of_two:
            return self
        needed: dict[str, tuple[object, object]] = {
            "release.features": (self.release.features, "none"),
            "training.local_steps": (self.training.local_steps, 1),
            "training.optimizer": (self.training.optimizer, self._kind_of_step),
            "training.weight_decay": (self.training.weight_decay, 0.0),
            "training.proximal_mu": (self.training.proximal_mu, 0.0),
            "training.autocast": (self.training.autocast, "off"),
            "exchange.personal": (self.exchange.personal, ()),
            "exchange.upload": (self.exchange.upload, "all"),
            "exchange.error_feedback": (self.exchange.error_feedback, False),
            "exchange.strategy": (self.exchange.strategy, None),
            "filtering.threshold": (self.filtering.threshold, 0.0),
        }
        if self.privacy.unit == "none":
            needed["training.grad_clip"] = self.training.grad_clip, None
        else:
            needed |= {
                "privacy.unit": (self.privacy.unit, self.privacy.record_kind),
                "privacy.release_metrics": (self.privacy.release_metrics, False),
                "training.compile": (self.training.compile, False),
            }
            if not is_classifier or self.privacy.trust == "sum":
                needed["privacy.trust"] = self.privacy.trust, "sum"
                needed["secure_aggregation.mode"] = self.secure_aggregation.mode, "on"
        why = f"the server steps by federation.server_optimizer={self.federation.server_optimizer}"
        _require(needed, by="federation.exchange=gradients", why={"training.optimizer": why})
        return self

    @model_validator(mode="after")
    def _moves_that_all_see(self) -> Self:
        """SCAFFOLD's common control variate is the global model's move only where every site enters
        the whole of its own, after as many steps, and the server takes their mean."""
        if not self.training.control_variates:
            return self
        federation, exchange = self.federation, self.exchange
        needed: dict[str, tuple[object, object]] = {
            "privacy.unit": (self.privacy.unit, "none"),
            "training.local_epochs": (self.training.local_epochs, None),
            "federation.exchange": (federation.exchange, "updates"),
            "federation.participation": (federation.participation, 1.0),
            "federation.server_optimizer": (federation.server_optimizer, "fedavg"),
            "federation.server_learning_rate": (federation.server_learning_rate, 1.0),
            "exchange.personal": (exchange.personal, ()),
            "exchange.upload": (exchange.upload, "all"),
            "exchange.strategy": (exchange.strategy, None),
            "filtering.threshold": (self.filtering.threshold, 0.0),
        }
        _require(needed, by="training.control_variates")
        return self

    def _classifier_alone(self) -> None:
        """A classifier selects the images of the release that it starts from."""
        needed: dict[str, tuple[object, object]] = {
            "federation.exchange": (self.federation.exchange, "gradients"),
            "privacy.unit": (self.privacy.unit, "record"),
            "ema.decay": (self.ema.decay, 0.0),
            "sharing.source": (self.sharing.source, "none"),
            "audit.canaries": (self.audit.canaries, 0),
        }
        _require(needed, by=f"model.network={CLASSIFIER}")

    @property
    def sums_whole_numbers(self) -> bool:
        """Whether the noise is made for sums of whole numbers, and with it for their size."""
        is_classifier = self.model.network == CLASSIFIER
        return self.privacy.trust == "sum" or self.release.is_on or is_classifier

    @property
    def makes_generator(self) -> bool:
        """Whether the run's model is a release's generator, which answers no queries."""
        is_plain = self.release.is_on and self.release.then == "none"
        return is_plain or self.model.network == CLASSIFIER

    @property
    def images_per_step(self) -> int:
        """Images expected in one local step: at most, where persons are drawn and not images."""
        one = self.privacy.images_per_group if self.privacy.unit == "group" else 1
        return self.training.batch_size * one

    @property
    def _kind_of_step(self) -> str:
        """The optimizer that the server's is of the family of; an extension's is of any."""
        kinds = {"fedavg": "sgd", "fedavgm": "sgd", "fedadam": "adamw", "fedyogi": "adamw"}
        return kinds.get(self.federation.server_optimizer, self.training.optimizer)

    def with_split(self) -> RunConfig:
        """These settings as a new run or plan has them: ``data.split`` spelt out where a unit of
        privacy decides it, and ``secure_aggregation.broadcast``.

        A file of an old run, which names no scheme, means the stratified one, and a model that the
        server sends: whoever reads it says so before he comes here.
        """
        secure = self.secure_aggregation
        if secure.mode == "on" and secure.broadcast is None:
            spelt = secure.model_copy(update={"broadcast": "sum"})
            return self.model_copy(update={"secure_aggregation": spelt}).with_split()
        if self.privacy.unit == "none" or self.data.split is not None:
            return self
        return self.model_copy(update={"data": self.data.model_copy(update={"split": "keyed"})})


def _require(
    needed: Mapping[str, tuple[object, object]], *, by: str, why: Mapping[str, str] | None = None
) -> None:
    """Refuse, all at once, the settings that are not the values beside them.

    why   what else decides on a setting's value
    """
    reasons = why or {}
    wanted = [
        f"{name}={_text(value)}" + (f" ({reasons[name]})" if name in reasons else "")
        for name, (found, value) in needed.items()
        if found != value
    ]
    if wanted:
        raise ValueError(f"{by} needs {', '.join(wanted)}")


def _text(value: object) -> str:
    """A value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return "[]" if value == () else f"{value:g}" if isinstance(value, float) else str(value)
