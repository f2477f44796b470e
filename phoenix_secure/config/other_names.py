"""Names that other programs, and people in a hurry, give to our settings."""

from __future__ import annotations

__all__ = ["SWEEP_KEYS", "known_as", "known_value"]

# Top-level keys of a sweep file that no settings file has.
SWEEP_KEYS = frozenset({"axes", "base", "points"})

_OTHER_NAMES = {
    "aggregator": "federation.server_optimizer",
    "algorithm": "federation.server_optimizer",
    "alpha": "partition.alpha",
    "batch": "training.batch_size",
    "beta": "partition.alpha",
    "clip": "privacy.clip_norm",
    "client_fraction": "federation.participation",
    "clients": "partition.num_sites",
    "cuda": "device",
    "dataset": "data.name",
    "data_dir": "data.path",
    "dirichlet_alpha": "partition.alpha",
    "dp_epsilon": "privacy.epsilon",
    "ema_decay": "ema.decay",
    "eps": "privacy.epsilon",
    "epochs": "training.local_epochs",
    "federation.strategy": "federation.server_optimizer",
    "fraction_fit": "federation.participation",
    "gpu": "device",
    "guidance": "sampling.guidance_scale",
    "image_width": "data.image_size",
    "img_size": "data.image_size",
    "learningrate": "training.learning_rate",
    "local_epoch": "training.local_epochs",
    "lr": "training.learning_rate",
    "max_grad_norm": "privacy.clip_norm",
    "min_fit_clients": "federation.min_sites",
    "model.name": "model.preset",
    "model.type": "model.preset",
    "mu": "training.proximal_mu",
    "n_clients": "partition.num_sites",
    "noise": "privacy.noise_multiplier",
    "noise_scale": "privacy.noise_multiplier",
    "num_clients": "partition.num_sites",
    "num_rounds": "federation.rounds",
    "num_server_rounds": "federation.rounds",
    "optimizer_lr": "training.learning_rate",
    "proximal": "training.proximal_mu",
    "q": "privacy.sampling_rate",
    "sample_rate": "privacy.sampling_rate",
    "scaffold": "training.control_variates",
    "secagg": "secure_aggregation.mode",
    "sigma": "privacy.noise_multiplier",
    "sites": "partition.num_sites",
    "steps": "training.local_steps",
    "target_delta": "privacy.delta",
    "target_epsilon": "privacy.epsilon",
    "wd": "training.weight_decay",
}

_OTHER_VALUES = {
    "client": "site",
    "example": "record",
    "gpu": "cuda",
    "hospital": "site",
    "image": "record",
    "instance": "record",
    "patient": "group",
    "person": "group",
    "sample": "record",
    "subject": "group",
}


def known_as(key: str) -> str | None:
    """The dotted name of the setting that others call ``key``, with or without a section; case and
    hyphens do not matter."""
    return _OTHER_NAMES.get(key.lower().replace("-", "_"))


def known_value(text: str) -> str | None:
    """What we call the value that others call ``text``."""
    return _OTHER_VALUES.get(text.lower())
