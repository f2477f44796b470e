"""Whole audits of models trained here: what is there is found, what is not there is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.audit.markdown import to_markdown
from phoenix_secure.audit.output import write_findings
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.report import AuditReport, Outcome, StratumReport
from phoenix_secure.audit.suite import Findings, Request, run_audit
from phoenix_secure.audit.target import open_target

pytestmark = pytest.mark.long


def audit(target: Path, out: Path, *, claim=None, attacks=("sima", "pia", "loss"), **files):
    named = {name: files.get(name) for name in ("members", "non_members", "reference")}
    opened = open_target(target, **named, device="cpu", cache_dir=out, claim=claim)
    request = Request(
        profile=profile_named("smoke"),
        attacks=attacks,
        edition=files.get("edition", "public"),
    )
    return run_audit(opened, request, out=out)


@pytest.fixture(scope="module")
def of_overfitted(overfitted_run: Path, tmp_path_factory) -> tuple[Findings, Path]:
    out = tmp_path_factory.mktemp("audit")
    findings = audit(
        overfitted_run,
        out,
        attacks=("nearest", "sima", "pia", "loss", "combined"),
        edition="confidential",
    )
    write_findings(findings, out=out)
    return findings, out


def test_an_overfitted_model_is_found_and_its_placebo_is_not(of_overfitted) -> None:
    report = of_overfitted[0].report
    assert report.verdict.outcome is Outcome.LEAK
    assert report.verdict.outcome.exit_code == 3
    assert not report.verdict.fail
    assert max(one.auc.value for one in report.attacks) > 0.7
    assert all(one.placebo_inside for one in report.attacks)
    assert report.blind.differs is False


@pytest.mark.slow
def test_a_run_that_never_dropped_a_label_is_asked_for_its_classes(train, tmp_path: Path) -> None:
    """Its null class was never trained: asked without a class, it shows far less."""
    run = train(
        tmp_path / "run",
        *("data.max_images=400", "data.held_out=0.5", "data.reference=0.3", "audit.canaries=60"),
        *("training.batch_size=16", "training.local_steps=300", "federation.rounds=5"),
        *("model.class_conditional=true", "training.label_dropout=0"),
    )
    report = audit(run, tmp_path / "audit", attacks=("loss", "pia")).report
    for attack in report.attacks:
        assert attack.setting.endswith("its class")
    loss = next(attack for attack in report.attacks if attack.name == "loss")
    assert loss.auc.value > 0.9
    of_choice = loss.choice_aucs
    assert max(v for k, v in of_choice.items() if "no class" in k) < of_choice[loss.setting]
    assert report.canaries is not None
    assert report.canaries.auc.value > 0.9


def test_images_seen_once_are_not_found(seen_once_run: Path, tmp_path: Path) -> None:
    report = audit(seen_once_run, tmp_path).report
    assert report.verdict.outcome is Outcome.NONE
    assert report.verdict.outcome.exit_code == 0
    assert all(0.42 < one.auc.value < 0.58 for one in report.attacks)
    assert 0.5 < report.verdict.detectable_auc < 0.6
    assert report.verdict.headline == (
        f"no leak detected (minimum detectable AUC {report.verdict.detectable_auc:.3f})"
    )


def test_an_fpr_with_too_few_non_members_has_no_figure(of_overfitted) -> None:
    for one in of_overfitted[0].report.attacks:
        by_fpr = {found.fpr: found for found in one.tpr}
        assert by_fpr[0.001].tpr is None
        assert "not estimable" in (by_fpr[0.001].reason or "")


def test_a_contrast_shift_between_the_sets_is_not_taken_for_membership(
    seen_once_run: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    with np.load(pictures["out"]) as archive:
        paler = (archive["images"] * 0.8).astype(np.uint8)
    np.savez(tmp_path / "paler.npz", images=paler)
    report = audit(
        seen_once_run,
        tmp_path,
        attacks=("loss",),
        members=pictures["in"],
        non_members=tmp_path / "paler.npz",
    ).report
    assert report.blind.differs
    assert report.verdict.outcome is not Outcome.NONE
    assert report.verdict.outcome is Outcome.INCONCLUSIVE


def test_a_claim_that_the_attack_beats_is_a_fail(overfitted_run: Path, tmp_path: Path) -> None:
    report = audit(overfitted_run, tmp_path, claim=(0.3, 1e-5), attacks=("loss",)).report
    assert report.verdict.fail
    assert report.canaries is not None
    assert report.canaries.claim == "contradicted"
    assert report.canaries.epsilon_steinke > 0.3
    assert report.canaries.placebo_epsilon == 0
    assert report.canaries.queries_per_record == 3 * 8
    honest = audit(overfitted_run, tmp_path / "b", claim=(20.0, 1e-5), attacks=("loss",)).report
    assert not honest.verdict.fail
    assert honest.canaries is not None
    assert honest.canaries.claim == "cannot be contradicted"


@pytest.mark.slow
def test_a_private_run_s_canaries_do_not_contradict_its_own_guarantee(
    train: Callable[..., Path], tmp_path: Path
) -> None:
    run = train(
        tmp_path / "run",
        *("data.max_images=400", "data.held_out=0.5", "data.reference=0.3"),
        *("training.batch_size=16", "training.local_steps=15", "federation.rounds=2"),
        *("audit.canaries=120", "privacy.unit=record", "privacy.epsilon=3"),
        *("privacy.sampling_rate=0.1", "privacy.delta=0.0001"),
    )
    guarantee = json.loads((run / "summary.json").read_text())["guarantee"]
    report = audit(run, tmp_path / "audit").report
    assert report.canaries is not None
    assert report.canaries.claimed_epsilon == guarantee["epsilon"] <= 3
    assert report.canaries.epsilon_steinke <= guarantee["epsilon"]
    assert not report.verdict.fail


def test_everything_is_written_and_reads_back(of_overfitted) -> None:
    findings, out = of_overfitted
    again = AuditReport.model_validate_json((out / "audit.json").read_bytes())
    assert again == findings.report
    text = (out / "audit.md").read_text()
    assert "leak found" in text
    assert again.plan_sha256 in text
    assert "Members that stand out" in text
    for name in ("roc.png", "scores.png", "nearest.png", "exposed.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_names_of_classes_stay_names(of_overfitted) -> None:
    """A class is a folder, and a folder may be called anything."""
    report = of_overfitted[0].report
    row = StratumReport(
        kind="class",
        group="<script>a</script> | b\n# \u202ec",
        num_members=3,
        num_non_members=3,
        auc=None,
        reason="too few",
    )
    text = to_markdown(report.model_copy(update={"strata": (row,)}))
    found = next(line for line in text.splitlines() if "script" in line)
    assert found.replace("\\|", "").count("|") == 5
    assert "<script>" not in text
    assert "\u202e" not in text


def test_the_public_edition_shows_no_single_image(overfitted_run: Path, tmp_path: Path) -> None:
    findings = audit(overfitted_run, tmp_path, attacks=("nearest", "sima"))
    write_findings(findings, out=tmp_path)
    assert not (tmp_path / "nearest.png").exists()
    assert not (tmp_path / "exposed.png").exists()
    assert findings.report.exposed == ()
    assert all(one.kind == "class" for one in findings.report.strata)
    assert "Members that stand out" not in (tmp_path / "audit.md").read_text()


def test_a_diffusers_pipeline_of_others_is_audited(
    tmp_path: Path, pictures: dict[str, Path]
) -> None:
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    # Among all random weights there are some with which chance looks like a leak.
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )
    DDIMPipeline(unet, DDIMScheduler(num_train_timesteps=100)).save_pretrained(tmp_path / "model")
    report = audit(
        tmp_path / "model",
        tmp_path / "out",
        attacks=("nearest", "loss"),
        members=pictures["in"],
        non_members=pictures["out"],
        reference=pictures["ref"],
    ).report
    assert report.target["kind"] == "diffusers pipeline"
    assert report.verdict.outcome is not Outcome.LEAK  # it was never trained on anything


def test_a_folder_of_copies_is_found_by_samples_alone(
    tmp_path: Path, pictures: dict[str, Path]
) -> None:
    from phoenix_secure.pictures import plain_png, save_images

    with np.load(pictures["in"]) as archive:
        copies = archive["images"]
    save_images(copies, tmp_path / "samples", encode=plain_png)
    findings = audit(
        tmp_path / "samples",
        tmp_path / "out",
        attacks=("nearest", "sima"),
        members=pictures["in"],
        non_members=pictures["out"],
    )
    assert findings.report.verdict.outcome is Outcome.LEAK
    assert "needs a denoiser" in findings.report.skipped["sima"]


def test_the_plan_is_on_the_disk_before_the_first_score(
    overfitted_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phoenix_secure.audit import suite

    def stop(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the first score")

    monkeypatch.setattr(suite, "blind_baseline", stop)
    with pytest.raises(RuntimeError, match="the first score"):
        audit(overfitted_run, tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["evaluation"]["sha256"]
    assert not (tmp_path / "audit.json").exists()
