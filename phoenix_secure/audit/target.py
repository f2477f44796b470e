"""Audit targets: a run folder, a diffusers pipeline folder, or a folder of samples."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phoenix_secure.audit.classes import find_null_class, number_classes
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.images import AuditImages, images_of_files, images_of_run, load_file
from phoenix_secure.audit.others_model import open_others_model, sampling_pipeline
from phoenix_secure.audit.plan import Claim
from phoenix_secure.config import CLASSIFIER, RunConfig, SamplingConfig
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.device import pick_devices
from phoenix_secure.diffusion.model_folder import load_model
from phoenix_secure.errors import CheckpointError, ConfigError, DataError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.files import sha256_of
from phoenix_secure.privacy.record_hashes import open_key
from phoenix_secure.release.generator import DESCRIPTION, FittedGenerator, load_generator
from phoenix_secure.training.schedule import num_local_steps

__all__ = ["Target", "open_target"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Everything that an audit may look at.

    model:      None for a folder of samples, which ``samples`` then holds, and for a release,
                whose ``generator`` makes samples and answers no queries.
    run:        the run folder and its settings, where the target is one.
    sha256:     of the weights, or of the samples' pixels.
    facts:      what the report prints about it.
    """

    kind: str
    sha256: str
    images: AuditImages = field(repr=False)
    model: PipelineDenoiser | None = None
    pipeline: Any = None
    sampling: SamplingConfig | None = None
    samples: NDArray[np.float32] | None = field(default=None, repr=False)
    generator: FittedGenerator | None = field(default=None, repr=False)
    run: RunFolder | None = None
    config: RunConfig | None = None
    claim: Claim | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def digest_key(self) -> bytes | None:
        """The secret key of digests over a private run's images; None for any other target.

        A plan's hash goes into the ledger: over plain digests, whoever held all images but one
        could test that one. The key stays in the run folder, so that the same plan has one hash.
        """
        if self.run is None or self.config is None or self.config.privacy.unit == "none":
            return None
        path = self.run.path / "audit.key"
        if not path.exists() and not os.access(self.run.path, os.W_OK):
            return os.urandom(32)
        return open_key(path)


def open_target(
    path: Path,
    *,
    members: Path | None,
    non_members: Path | None,
    reference: Path | None,
    device: str,
    cache_dir: Path,
    claim: tuple[float, float] | None = None,
    by: str | None = None,
) -> Target:
    """Find out what ``path`` is, and load model and images.

    claim:      (epsilon, delta) that somebody states for it; a run brings its own.
    by:         what images are grouped by (``user_column``).
    Raises:     ConfigError for a path that is none of the three or images that are not named;
                CheckpointError for a damaged model; DataError for images that do not fit.
    """
    if not path.exists():
        raise ConfigError(f"nothing at {path}: give a run, a diffusers model or a folder of images")
    stated = None if claim is None else _stated(claim)
    folder = RunFolder(path)
    if folder.config_file.exists():
        return _open_run(
            folder,
            members,
            non_members,
            reference,
            device=device,
            cache_dir=cache_dir,
            stated=stated,
            by=by,
        )
    if members is None or non_members is None:
        raise ConfigError(
            f"{path} is not a run folder, so its members are unknown: give --members (images it "
            "was trained on) and --non-members (images of the same kind that it never saw)"
        )
    if (path / "model_index.json").exists():
        saved = open_others_model(path, device=pick_devices(device)[0])
        model = PipelineDenoiser(saved.pipeline, device=pick_devices(device)[0])
        images = images_of_files(members, non_members, reference, shape=model.shape, by=by)
        images = number_classes(images, model=model, class_names=saved.class_names)
        model.null_label = find_null_class(model, images)
        pipeline, sampled = sampling_pipeline(saved.pipeline)
        return Target(
            kind="diffusers pipeline",
            sha256=_weights_digest(path),
            images=images,
            model=model,
            pipeline=pipeline,
            sampling=saved.sampling,
            claim=stated,
            facts={
                "weights": "as saved in the pipeline",
                "epochs per image": "not known",
                **sampled,
            },
        )
    try:
        samples = load_file(path)
    except DataError as error:
        raise ConfigError(
            f"{path} is not a run folder, a diffusers model or readable images ({error})"
        ) from error
    shape = samples.images.shape[1:]
    return Target(
        kind="samples",
        sha256=samples.digest(),
        images=images_of_files(
            members, non_members, reference, shape=(shape[0], *shape[1:]), by=by
        ),
        samples=to_unit_range(samples.images),
        claim=stated,
        facts={"samples": f"{samples.num_images} images", "weights": "not seen"},
    )


def _open_run(
    folder: RunFolder,
    members: Path | None,
    non_members: Path | None,
    reference: Path | None,
    *,
    device: str,
    cache_dir: Path,
    stated: Claim | None,
    by: str | None,
) -> Target:
    config = folder.load_config()
    if not folder.model.exists():
        raise CheckpointError(
            f"{folder.path} has no model yet: finish it with `phoenix-secure resume {folder.path}`"
        )
    generator = pipeline = sampling = model = None
    class_names: tuple[str, ...] = ()
    if (folder.model / DESCRIPTION).exists():
        generator = load_generator(folder.model, device=pick_devices(device)[0])
        form = generator.network.form
        shape = form.channels, form.image_size, form.image_size
    else:
        saved = load_model(folder.model, device=pick_devices(device)[0])
        pipeline, sampling, class_names = saved.pipeline, saved.sampling, saved.class_names
        model = PipelineDenoiser(pipeline, device=pick_devices(device)[0])
        shape = model.shape
    if members is not None and non_members is not None:
        images = images_of_files(members, non_members, reference, shape=shape, by=by)
    elif members is not None or non_members is not None:
        raise ConfigError("--members and --non-members belong together: give both or neither")
    else:
        images = images_of_run(folder, cache_dir=cache_dir, by=by)
    if images.shape != shape:
        raise DataError(
            f"images of shape {images.shape} do not fit the model's {shape}: restore the "
            "run's config.yaml"
        )
    if model is not None:
        images = number_classes(images, model=model, class_names=class_names)
    return Target(
        kind="run",
        sha256=_weights_digest(folder.model),
        images=images,
        model=model,
        pipeline=pipeline,
        sampling=sampling,
        generator=generator,
        run=folder,
        config=config,
        claim=stated or _claim_of(folder),
        facts=_run_facts(config, images),
    )


def _stated(claim: tuple[float, float]) -> Claim:
    epsilon, delta = claim
    if not (0 < epsilon <= 1000 and 0 < delta < 1):
        raise ConfigError(
            f"--epsilon {epsilon:g} --delta {delta:g}: epsilon must lie in (0, 1000], "
            "delta in (0, 1)"
        )
    return Claim(unit="record", epsilon=epsilon, delta=delta, source="stated by the user")


def _claim_of(run: RunFolder) -> Claim | None:
    """The guarantee that the finished run states; None where it states none."""
    try:
        guarantee = read_summary(run.path).guarantee or {}
        if guarantee["epsilon"] is None:
            return None
        return Claim(
            unit=guarantee["unit"],
            epsilon=guarantee["epsilon"],
            delta=guarantee["delta"],
            source="the guarantee in the run's summary.json",
        )
    except (CheckpointError, KeyError):
        return None


def _run_facts(config: RunConfig, images: AuditImages) -> dict[str, str]:
    sites = config.partition.num_sites
    if config.release.is_on:
        what = "a DDPM trained on" if config.release.then == "ddpm" else "a generator fitted to"
        return {
            "weights": f"{what} one noised release ({config.release.features} features)",
            "epochs per image": "each image enters one sum, once",
            "augmentation": "none",
            **_source(config, images),
        }
    if config.model.network == CLASSIFIER:
        return {
            "weights": "a release's generator, whose images a classifier selects",
            "epochs per image": f"one sum of features, and {config.federation.rounds} sums of "
            f"gradients at rate {config.privacy.sampling_rate:g}",
            "augmentation": "none",
            **_source(config, images),
        }
    training = config.training
    num = images.members.num_images
    steps = num_local_steps(training, num_images=max(1, num // sites))
    share = max(1, round(config.federation.participation * sites))
    seen = config.federation.rounds * share * steps * training.batch_size / num
    flip = "mirrored at random" if training.horizontal_flip else "none"
    return {
        "weights": "moving average (EMA)" if config.ema.decay > 0 else "last round",
        "epochs per image": f"about {seen:.1f}",
        "augmentation": flip,
        **_source(config, images),
    }


def _source(config: RunConfig, images: AuditImages) -> dict[str, str]:
    num, sites = images.members.num_images, config.partition.num_sites
    return {
        "data": f"{images.members.name}, {num} members at {sites} sites",
        "duplicates left out": str(images.num_duplicates),
        "secure aggregation": config.secure_aggregation.mode,
        "differential privacy": config.privacy.unit,
    }


def _weights_digest(folder: Path) -> str:
    is_generator = (folder / DESCRIPTION).exists()
    files = sorted((folder if is_generator else folder / "unet").glob("*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{sha256_of(file)}\n".encode())
    return digest.hexdigest()
