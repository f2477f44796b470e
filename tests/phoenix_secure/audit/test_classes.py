"""Images are asked for under the numbers that their classes had in the model's training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffusers import DDPMScheduler

from others_models import digits, save, small_unet
from phoenix_secure.audit.classes import matched_by_class
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.report import Outcome
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import Target, open_target
from phoenix_secure.config import SamplingConfig
from phoenix_secure.diffusion.model_folder import save_model
from phoenix_secure.diffusion.pipeline import PhoenixPipeline
from phoenix_secure.errors import DataError
from phoenix_secure.pictures import plain_png, save_images


def opened(folder: Path, members: Path, non_members: Path) -> Target:
    files = {"members": members, "non_members": non_members, "reference": None}
    return open_target(folder, **files, device="cpu", cache_dir=folder)


def folders(path: Path, names: dict[str, int], *, first: int, each: int = 12) -> Path:
    """Class folders called ``names``, with digits of that class in each."""
    pixels, labels = digits(first, first + 400)
    for name, digit in names.items():
        save_images(pixels[labels == digit][:each, None], path / name, encode=plain_png)
    return path


def archives(path: Path, members: object, others: object) -> tuple[Path, Path]:
    """Two .npz files of 44 images; their labels run through the given classes, None: none."""
    found = []
    for name, classes, start in (("in", members, 0), ("out", others, 100)):
        arrays = {"images": digits(start, start + 44)[0]}
        if classes is not None:
            arrays["labels"] = np.resize(np.array(classes), 44)
        np.savez(path / f"{name}.npz", **arrays)
        found.append(path / f"{name}.npz")
    return found[0], found[1]


def own_model(path: Path, class_names: tuple[str, ...]) -> Path:
    unet = small_unet(num_class_embeds=len(class_names) + 1)
    pipeline = PhoenixPipeline(unet, DDPMScheduler())
    save_model(pipeline, path, sampling=SamplingConfig(), class_names=class_names)
    return path


@pytest.mark.parametrize(
    ("members", "others", "words"),
    [
        (None, range(10), "members have no labels"),
        (range(10), None, "non-members have no labels"),
        (range(11), range(10), "members hold class 10.* knows 10 classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(members, others, words: str, tmp_path: Path) -> None:
    save(small_unet(num_class_embeds=10), tmp_path / "model")
    with pytest.raises(DataError, match=words):
        opened(tmp_path / "model", *archives(tmp_path, members, others))


def test_the_null_class_is_no_class_of_an_image(tmp_path: Path) -> None:
    own_model(tmp_path / "model", tuple("abcdefghij"))
    with pytest.raises(DataError, match=r"members hold class 10.* knows 10 classes"):
        opened(tmp_path / "model", *archives(tmp_path, range(11), range(10)))


def test_folders_named_by_numbers_are_those_classes(tmp_path: Path) -> None:
    save(small_unet(num_class_embeds=10), tmp_path / "model")
    classes = {"3": 3, "7": 7}
    target = opened(
        tmp_path / "model",
        folders(tmp_path / "in", classes, first=0),
        folders(tmp_path / "out", classes, first=500),
    )
    assert set(target.images.members.labels) == set(target.images.non_members.labels) == {3, 7}
    assert target.images.members.class_names[7] == "7"


def test_folders_named_as_the_model_s_classes_are_those(tmp_path: Path) -> None:
    own_model(tmp_path / "model", ("bird", "cat", "dog"))
    target = opened(
        tmp_path / "model",
        folders(tmp_path / "in", {"cat": 3, "dog": 7}, first=0, each=20),
        folders(tmp_path / "out", {"dog": 7}, first=500, each=30),
    )
    assert set(target.images.members.labels) == {1, 2}
    assert set(target.images.non_members.labels) == {2}


def test_names_that_nobody_numbers_are_refused(tmp_path: Path) -> None:
    save(small_unet(num_class_embeds=10), tmp_path / "model")
    with pytest.raises(DataError, match=r"knows 10 classes by number.*have 2 \(cat, dog"):
        opened(
            tmp_path / "model",
            folders(tmp_path / "in", {"cat": 3, "dog": 7}, first=0),
            folders(tmp_path / "out", {"cat": 3, "dog": 7}, first=500),
        )
    own_model(tmp_path / "own", ("bird", "cat", "dog"))
    with pytest.raises(DataError, match=r"3 classes \(bird, cat, dog"):
        opened(
            tmp_path / "own",
            folders(tmp_path / "in2", {"cat": 3, "fox": 7}, first=0),
            folders(tmp_path / "out2", {"cat": 3, "fox": 7}, first=500),
        )


def test_as_many_folders_as_classes_stand_in_their_order(tmp_path: Path) -> None:
    save(small_unet(num_class_embeds=2), tmp_path / "model")
    target = opened(
        tmp_path / "model",
        folders(tmp_path / "in", {"cat": 3, "dog": 7}, first=0),
        folders(tmp_path / "out", {"cat": 3, "dog": 7}, first=500),
    )
    assert target.images.members.class_names == ("cat", "dog")
    with pytest.raises(DataError, match="number their classes differently"):
        opened(
            tmp_path / "model",
            tmp_path / "in",
            folders(tmp_path / "other", {"cat": 3, "fox": 7}, first=500),
        )


@pytest.mark.parametrize(("classes", "null"), [(range(10), 10), (range(9), None)])
def test_a_class_that_no_image_has_is_the_null_class_of_others(
    classes: range, null: int | None, tmp_path: Path
) -> None:
    save(small_unet(num_class_embeds=11), tmp_path / "model")
    target = opened(tmp_path / "model", *archives(tmp_path, classes, classes))
    assert target.model is not None
    assert target.model.null_label == null
    if null is not None:
        x, t = np.zeros((2, 1, 8, 8), np.float32), np.full(2, 50)
        assert np.array_equal(target.model(x, t), target.model.asking(null)(x, t))


def test_matched_images_are_of_the_same_classes() -> None:
    rng = np.random.default_rng(0)
    labels, others = rng.integers(0, 4, 60), rng.integers(0, 6, 30)
    own = np.flatnonzero(rng.random(60) < 0.5)
    ours, theirs = matched_by_class(labels, own, others, rng=rng)
    assert set(ours) <= set(own)
    assert len(set(ours)) == len(ours) == len(set(theirs)) == len(theirs)
    for label in range(6):
        expected = min((labels[own] == label).sum(), (others == label).sum())
        assert (labels[ours] == label).sum() == (others[theirs] == label).sum() == expected


@pytest.mark.long
@pytest.mark.parametrize("with_labels", [False, True])
def test_a_class_conditional_model_asked_without_classes_is_not_clean(
    with_labels: bool, tmp_path: Path
) -> None:
    """The null class of a run that never dropped a label was not trained: it shows nothing."""
    own_model(tmp_path / "model", tuple("abcdefghij"))
    classes = range(10) if with_labels else None
    target = opened(tmp_path / "model", *archives(tmp_path, classes, classes))
    request = Request(profile=profile_named("smoke"), attacks=("loss",))
    report = run_audit(target, request, out=tmp_path / "out").report
    asked = [reason for reason in report.verdict.reasons if "not all images have labels" in reason]
    assert bool(asked) is not with_labels
    assert report.verdict.outcome is not Outcome.NONE
