"""Wrong inputs end in one clear line, never in a number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import Target, open_target
from phoenix_secure.errors import CheckpointError, ConfigError, DataError


def opened(target: Path, **files: Path | None) -> Target:
    named = {name: files.get(name) for name in ("members", "non_members", "reference")}
    return open_target(target, **named, device="cpu", cache_dir=target)


def test_members_that_are_also_non_members_are_refused(seen_once_run, pictures) -> None:
    with pytest.raises(DataError, match="share 80 image"):
        opened(seen_once_run, members=pictures["in"], non_members=pictures["in"])


def test_images_of_another_size_are_refused(seen_once_run, pictures, tmp_path) -> None:
    np.savez(tmp_path / "big.npz", images=np.full((30, 1, 16, 16), 9, np.uint8))
    with pytest.raises(DataError, match=r"--non-members.*resize"):
        opened(seen_once_run, members=pictures["in"], non_members=tmp_path / "big.npz")


def test_a_wrong_value_range_is_refused(seen_once_run, pictures, tmp_path) -> None:
    np.savez(tmp_path / "range.npz", images=np.full((30, 1, 8, 8), 7.0, np.float32))
    with pytest.raises(DataError, match="expected \\[0, 1\\] or \\[-1, 1\\]"):
        opened(seen_once_run, members=pictures["in"], non_members=tmp_path / "range.npz")


def test_too_few_images_are_refused(seen_once_run, pictures, tmp_path) -> None:
    with np.load(pictures["out"]) as archive:
        np.savez(tmp_path / "few.npz", images=archive["images"][:3])
    target = opened(seen_once_run, members=pictures["in"], non_members=tmp_path / "few.npz")
    with pytest.raises(DataError, match="too few"):
        run_audit(target, Request(profile=profile_named("smoke")), out=tmp_path)


def test_a_target_that_is_nothing_is_refused(tmp_path: Path, pictures) -> None:
    with pytest.raises(ConfigError, match="nothing at"):
        opened(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="give --members"):
        opened(tmp_path / "empty")
    refusal = "is not a run folder, a diffusers model or readable images"
    with pytest.raises(ConfigError, match=refusal):
        opened(tmp_path / "empty", members=pictures["in"], non_members=pictures["out"])


def test_a_run_without_its_split_is_refused(seen_once_run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(seen_once_run, copy)
    (copy / "split.npz").unlink()
    with pytest.raises(DataError, match=r"no split\.npz"):
        opened(copy)
    (copy / "split.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="damaged"):
        opened(copy)


@pytest.mark.long
def test_lost_or_damaged_canaries_are_refused(overfitted_run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(overfitted_run, copy)
    (copy / "canaries.npz").write_bytes((copy / "canaries.npz").read_bytes()[:200])
    with pytest.raises(DataError, match=r"canaries\.npz"):
        run_audit(opened(copy), Request(profile=profile_named("smoke")), out=tmp_path / "out")


def test_a_model_that_answers_nan_gives_no_figure(seen_once_run: Path, tmp_path: Path) -> None:
    target = opened(seen_once_run)
    assert target.model is not None
    with torch.no_grad():
        for parameter in target.pipeline.unet.parameters():
            parameter.fill_(float("nan"))
    request = Request(profile=profile_named("smoke"), attacks=("sima",))
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        run_audit(target, request, out=tmp_path)
    assert not (tmp_path / "audit.json").exists()


def test_unknown_names_and_rates_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--attack magic.*use nearest"):
        Request(profile=profile_named("smoke"), attacks=("magic",))
    with pytest.raises(ConfigError, match="--fpr"):
        Request(profile=profile_named("smoke"), fprs=(0.0,))
    with pytest.raises(ConfigError, match="use smoke, fast, full"):
        profile_named("slow")
