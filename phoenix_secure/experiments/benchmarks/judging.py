"""What the synthetic images of one row are worth.

Classifiers are trained on them alone, for a fixed number of passes, and judged on the real test
images: nothing is chosen with their help. KID, FD and recall compare the same number of synthetic
and real test images by the features of a network that knows none of the data sets.

The field trains wide residual networks of millions of parameters for hundreds of passes. This one
has 120,000 parameters (``metrics.classifier``) and eight passes, which two cores bear: figures are
a little below what the same images would reach there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phoenix_secure.data.archive import read_arrays
from phoenix_secure.data.catalogue import facts_of
from phoenix_secure.data.images import ImageSet, to_unit_range
from phoenix_secure.data.sources import load_run_images, load_test_images
from phoenix_secure.data.split import load_split
from phoenix_secure.device import num_cores
from phoenix_secure.experiments.benchmarks.pixel_classifiers import pixel_accuracies
from phoenix_secure.experiments.readability import load_judge, readability
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.files import replace_file
from phoenix_secure.metrics.classifier import train_classifier
from phoenix_secure.metrics.features import FeatureExtractor, efficientnet_lite0, inception
from phoenix_secure.metrics.frechet import frechet_distance
from phoenix_secure.metrics.quality import quality
from phoenix_secure.rng import SeedTree
from phoenix_secure.workers import workers

__all__ = ["Figures", "has_own_size", "judge_images", "judging_seconds", "real_images"]

EPOCHS = 8
_BATCH = 128
_LEARNING_RATE = 4e-3
_COMPARED = 5000  # images on either side, for KID, FD and recall
_CALIBRATION = 1024
# Images that a judge of published data is trained on; what it must read to be one.
_LEAST_ACCURACY = {"mnist": 0.98, "fashion-mnist": 0.85, "cifar10": 0.55}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """One row's figures.

    accuracy       share of real test images that a CNN of synthetic ones names rightly
    logreg, mlp    the same of two classifiers of pixels; None where they were not asked for
    kid, fd        kernel and Frechet distance by ``extractor``, at ``num_compared`` images
    recall         share of real test images near a synthetic one
    fid            by the Inception network; None without its weights
    readable       share of synthetic images that a classifier of real ones is at least 90 % sure
                   of, and the same of real test images; None where there is no such classifier
                   for images of this size
    """

    accuracy: float
    logreg: float | None
    mlp: float | None
    kid: float
    fd: float
    precision: float
    recall: float
    coverage: float
    fid: float | None
    readable: float | None
    readable_real: float | None
    extractor: str
    num_synthetic: int
    num_test: int
    num_compared: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge_images(
    archive: Path,
    *,
    run: Path,
    seed: int,
    cache_dir: Path,
    device: torch.device,
    pixel_classifiers: bool = False,
    inception_weights: Path | None = None,
    progress: Callable[[str], object] = lambda stage: None,
) -> Figures:
    """Judge the labelled images in the .npz file ``archive``, which the run in ``run`` made.

    Guarantee:  the same images and seed give the same figures on one machine.
    Raises:     DataError, CheckpointError.
    """
    started = time.perf_counter()
    arrays = read_arrays(archive, advice="delete it, and the benchmark samples it again")
    synthetic, labels = to_unit_range(arrays["images"]), arrays["labels"].astype(np.int64)
    real, is_published = real_images(run, cache_dir=cache_dir)
    assert real.labels is not None  # noqa: S101 - every data set of the benchmark has labels
    seeds = SeedTree(seed).child("benchmark")
    test = to_unit_range(real.images)
    # Workers leave torch one thread: the same figures on any number of cores.
    with workers(num_cores()):
        progress("training a classifier on synthetic images")
        classifier = train_classifier(
            synthetic,
            labels=labels,
            num_classes=real.num_classes,
            dataset="synthetic",
            generator=seeds.child("classifier").torch(),
            device=device,
            epochs=EPOCHS,
            batch_size=_BATCH,
            learning_rate=_LEARNING_RATE,
        )
        accuracy = classifier.accuracy(test, labels=real.labels)
        plain = None
        if pixel_classifiers:
            progress("training two classifiers of pixels")
            plain = pixel_accuracies(
                synthetic,
                labels=labels,
                test=test,
                test_labels=real.labels,
                rng=seeds.child("pixel-classifiers").numpy(),
            )
        progress("comparing features")
        size = min(_COMPARED, len(test), len(synthetic))
        rng = seeds.child("compared").numpy()
        compared = synthetic[np.sort(rng.choice(len(synthetic), size, replace=False))]
        # The same real images for every row.
        chosen = np.sort(np.random.default_rng(0).choice(len(test), size, replace=False))
        pair = compared, test[chosen]
        lite = efficientnet_lite0(device=device)
        kept = cache_dir / "benchmark" if is_published else None
        generated, reference = _features(lite, pair, name=_name_of(real, size), kept=kept)
        scores = quality(generated, reference, rng=rng)
        fid = None
        if inception_weights is not None:
            progress("comparing Inception features")
            network = inception(inception_weights, device=device)
            fid = frechet_distance(*_features(network, pair, name=_name_of(real, size), kept=kept))
        readable = readable_real = None
        if is_published and has_own_size(real):
            progress("reading with a classifier of real images")
            judge = load_judge(
                real.name,
                cache_dir=cache_dir,
                device=device,
                min_accuracy=_LEAST_ACCURACY[real.name],
            )
            if judge.classifier.channels == synthetic.shape[1]:
                readable = readability(compared, judge.classifier).share
                readable_real = judge.real.share
    return Figures(
        accuracy=accuracy,
        logreg=None if plain is None else plain.logreg,
        mlp=None if plain is None else plain.mlp,
        kid=scores.kid,
        fd=frechet_distance(generated, reference),
        precision=scores.precision,
        recall=scores.recall,
        coverage=scores.coverage,
        fid=fid,
        readable=readable,
        readable_real=readable_real,
        extractor=lite.name,
        num_synthetic=len(synthetic),
        num_test=len(test),
        num_compared=size,
        seconds=time.perf_counter() - started,
    )


def real_images(run: Path, *, cache_dir: Path) -> tuple[ImageSet, bool]:
    """Real images that the run in ``run`` never saw, and whether they are the published test part.

    Of a set without one they are the images that the run held out.
    """
    folder = RunFolder(run)
    config = folder.load_config()
    data = config.data
    if data.name in _LEAST_ACCURACY:
        return (
            load_test_images(
                data.name,
                image_size=data.image_size,
                channels=data.channels,
                cache_dir=cache_dir,
            ),
            True,
        )
    images = load_run_images(data, seed=config.seed, cache_dir=cache_dir)
    return images.take(load_split(folder.split_file, image_set=images).held_out), False


def has_own_size(images: ImageSet) -> bool:
    """Whether images have the size in which their set was published: the one that a judge of it has
    learnt, and reads surely."""
    return images.image_size == facts_of(images.name).image_size


def judging_seconds(
    images: ImageSet, *, num_images: int, device: torch.device, pixel_classifiers: bool = False
) -> float:
    """Seconds of judging ``num_images`` images of the form of ``images``, from a few of them."""
    few = images.take(np.arange(min(_CALIBRATION, images.num_images)))
    assert few.labels is not None  # noqa: S101 - every data set of the benchmark has labels
    pixels = to_unit_range(few.images)
    labels = np.arange(len(pixels)) % max(2, images.num_classes)
    started = time.perf_counter()
    train_classifier(
        pixels,
        labels=labels,
        num_classes=max(2, images.num_classes),
        dataset="timing",
        generator=torch.Generator().manual_seed(0),
        device=device,
        epochs=1,
        batch_size=_BATCH,
    )
    of_one = EPOCHS * (time.perf_counter() - started) / len(pixels)
    if pixel_classifiers:
        started = time.perf_counter()
        rng = np.random.default_rng(0)
        pixel_accuracies(pixels, labels=labels, test=pixels[:1], test_labels=labels[:1], rng=rng)
        of_one += (time.perf_counter() - started) / len(pixels)
    started = time.perf_counter()
    with workers(num_cores()):
        efficientnet_lite0(device=device)(pixels[:128])
    of_feature = (time.perf_counter() - started) / min(128, len(pixels))
    return num_images * of_one + min(_COMPARED, num_images) * of_feature


def _name_of(real: ImageSet, size: int) -> str:
    return f"{real.name}-{real.images.shape[1]}x{real.image_size}-{size}"


def _features(
    extractor: FeatureExtractor,
    pair: tuple[np.ndarray, np.ndarray],
    *,
    name: str,
    kept: Path | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Of generated and real images, float64; those of published test images come from ``kept``."""
    generated, real = pair
    path = None if kept is None else kept / f"{name}-{extractor.name}.npz"
    if path is not None and path.exists():
        reference = read_arrays(path, advice="delete it")["features"]
    else:
        reference = extractor(real)
        if path is not None:
            _write(path, reference)
    return extractor(generated).astype(np.float64), reference.astype(np.float64)


def _write(path: Path, features: np.ndarray) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, features=features)

    replace_file(path, write)
