"""A fitted generator, its images, and its folder: safetensors weights and a JSON description.

::

    generator.safetensors    weights and running means
    classifier.safetensors   weights of the classifier that selects its images, where there is one
    release.json             what they are of: form, classes, the noised sum they were fitted to
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load_file, save

from phoenix_secure.data.images import from_unit_range
from phoenix_secure.errors import CheckpointError
from phoenix_secure.files import replace_folder, sha256_of, write_bytes
from phoenix_secure.release.classifier import LinearClassifier
from phoenix_secure.release.networks import AnyGenerator, GeneratorForm, empty_generator

__all__ = [
    "DESCRIPTION",
    "FittedGenerator",
    "load_generator",
    "sample_generated",
    "save_generator",
]

DESCRIPTION = "release.json"
_WEIGHTS = "generator.safetensors"
_CLASSIFIER = "classifier.safetensors"
_FORMAT = "phoenix-secure/generator/v3"
_log = logging.getLogger(__name__)
_BATCH = 500
_MOST_DRAWS = 30  # of one image, until the classifier reads its class
_SHARPEST = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedGenerator:
    """A generator, the names of its classes (empty: none), and those that it knows.

    latent_scale    of the latents that images are sampled from; 1: as the generator was fitted
    sharpness       factor on the logits of pixels when sampling; 1: as the generator was fitted
    classifier      says which class an image shows, whatever it was drawn for
    known     classes that the noised counts left with images, ascending; only these are sampled
    sum_sha256    of the noised sum that it was fitted to
    """

    network: AnyGenerator
    class_names: tuple[str, ...]
    known: tuple[int, ...]
    sum_sha256: str
    latent_scale: float = 1.0
    sharpness: float = 1.0
    classifier: LinearClassifier | None = None

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names of the classes that can be sampled."""
        return tuple(self.class_names[k] for k in self.known) if self.class_names else ()

    def labels(self, num_images: int) -> np.ndarray:
        """Known classes in turn, (num_images,) int64."""
        known = np.array(self.known, np.int64)
        return known[np.arange(num_images) % known.size]


def sample_generated(
    fitted: FittedGenerator,
    *,
    num_images: int,
    generator: torch.Generator,
    class_labels: np.ndarray | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """Images (num_images, C, H, W) float32 in [-1, 1]; known classes in turn by default.

    With a classifier, an image is of the class that it reads, whatever it was drawn for; more are
    drawn until there are enough of every class, 30 times at most.
    """
    labels = fitted.labels(num_images) if class_labels is None else class_labels
    if fitted.classifier is not None:
        return _selected(fitted, fitted.classifier, labels, generator, progress)
    parts = []
    for start in range(0, num_images, _BATCH):
        of_batch = labels[start : start + _BATCH]
        parts.append(_drawn(fitted, of_batch, generator))
        progress(len(of_batch))
    return np.concatenate(parts)


def _selected(
    fitted: FittedGenerator,
    classifier: LinearClassifier,
    labels: np.ndarray,
    generator: torch.Generator,
    progress: Callable[[int], object],
) -> np.ndarray:
    form = fitted.network.form
    found = np.empty((len(labels), form.channels, form.image_size, form.image_size), np.float32)
    is_open = np.ones(len(labels), bool)
    for _ in range(_MOST_DRAWS):
        waiting = np.flatnonzero(is_open)
        for start in range(0, len(waiting), _BATCH):
            of_batch = waiting[start : start + _BATCH]
            images = _drawn(fitted, labels[of_batch], generator)
            # Until a better one comes.
            still = is_open[of_batch]
            found[of_batch[still]] = images[still]
            read = classifier(from_unit_range(images))
            num_filled = 0
            for k in np.unique(read):
                places = np.flatnonzero(is_open & (labels == k))[: int((read == k).sum())]
                found[places] = images[read == k][: len(places)]
                is_open[places] = False
                num_filled += len(places)
            progress(num_filled)
        if not is_open.any():
            return found
    num_left = int(is_open.sum())
    progress(num_left)
    _log.warning(
        "%d of %d images are kept although the classifier read another class in each of %d draws",
        *(num_left, len(labels), _MOST_DRAWS),
    )
    return found


@torch.no_grad()
def _drawn(fitted: FittedGenerator, labels: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """One image in [-1, 1] for each label."""
    network = fitted.network.eval()
    device = next(network.parameters()).device
    latents = torch.randn(len(labels), network.form.latent_size, generator=generator)
    latents *= fitted.latent_scale
    classes = torch.from_numpy(labels).to(device)
    images = network(latents.to(device), classes, sharpness=fitted.sharpness)
    drawn: np.ndarray = images.mul(2).sub(1).cpu().numpy()
    return drawn


def save_generator(fitted: FittedGenerator, path: Path) -> None:
    """Write the folder ``path``, replacing it atomically.

    Raises:     StorageError.
    """
    form = fitted.network.form
    with replace_folder(path) as new:
        tensors = {
            name: value.detach().cpu().contiguous()
            for name, value in fitted.network.state_dict().items()
        }
        write_bytes(new / _WEIGHTS, save(tensors))
        description = {
            "format": _FORMAT,
            "channels": form.channels,
            "image_size": form.image_size,
            "num_classes": form.num_classes,
            "latent_size": form.latent_size,
            "class_names": list(fitted.class_names),
            "known": list(fitted.known),
            "sum_sha256": fitted.sum_sha256,
            "latent_scale": fitted.latent_scale,
            "sharpness": fitted.sharpness,
            "weights_sha256": sha256_of(new / _WEIGHTS),
        }
        if form.num_networks > 1:
            description["num_networks"] = form.num_networks
        if fitted.classifier is not None:
            write_bytes(new / _CLASSIFIER, save_arrays({"weights": fitted.classifier.vector}))
            description["classifier_sha256"] = sha256_of(new / _CLASSIFIER)
        text = json.dumps(description, indent=2, sort_keys=True) + "\n"
        write_bytes(new / DESCRIPTION, text.encode())


def load_generator(path: Path, *, device: torch.device) -> FittedGenerator:
    """Open a folder that ``save_generator`` wrote.

    Raises:     CheckpointError naming the folder and the fix.
    """
    damaged = f"the generator in {path} is missing or damaged: go on with `phoenix-secure resume`"
    try:
        found = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        if found["format"] != _FORMAT:
            raise CheckpointError(
                f"the generator in {path} was written by another version: delete the folder, and "
                "`phoenix-secure resume` fits it again"
            )
        sizes = ("channels", "image_size", "num_classes", "latent_size")
        num_networks = found.get("num_networks", 1)
        form = GeneratorForm(**{name: found[name] for name in sizes}, num_networks=num_networks)
        class_names = tuple(str(name) for name in found["class_names"])
        known = tuple(int(k) for k in found["known"])
        if not known or not all(0 <= k < form.num_classes for k in known):
            raise ValueError("expected known classes")
        if class_names and len(class_names) != form.num_classes:
            raise ValueError("expected a name for each class")
        latent_scale, sharpness = float(found["latent_scale"]), float(found["sharpness"])
        if not (0 < latent_scale <= 1 and 0 < sharpness <= _SHARPEST):
            raise ValueError("expected a latent scale and a sharpness within their bounds")
        if sha256_of(path / _WEIGHTS) != found["weights_sha256"]:
            raise ValueError("expected the weights of the description")
        network = empty_generator(form)
        network.load_state_dict(load_file(path / _WEIGHTS))
        classifier = _loaded_classifier(path, form, sha256=found.get("classifier_sha256"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(damaged) from error
    return FittedGenerator(
        network=network.to(device).eval(),
        class_names=class_names,
        known=known,
        sum_sha256=str(found["sum_sha256"]),
        latent_scale=latent_scale,
        sharpness=sharpness,
        classifier=classifier,
    )


def _loaded_classifier(
    path: Path, form: GeneratorForm, *, sha256: str | None
) -> LinearClassifier | None:
    if sha256 is None:
        return None
    if sha256_of(path / _CLASSIFIER) != sha256:
        raise ValueError("expected the classifier of the description")
    return LinearClassifier(
        load_arrays(path / _CLASSIFIER)["weights"],
        channels=form.channels,
        image_size=form.image_size,
        num_classes=form.num_classes,
    )
