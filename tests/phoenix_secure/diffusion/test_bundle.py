"""MONAI's own commands open a bundle without this project, and sample the model's images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.config_file import load_config
from phoenix_secure.diffusion.bundle import save_bundle
from phoenix_secure.diffusion.bundle_network import BundleNetwork, sample
from phoenix_secure.diffusion.model_folder import SavedModel, load_model, save_model
from phoenix_secure.diffusion.own_network import OwnNetwork
from phoenix_secure.diffusion.sampling import build_pipeline, sample_images
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import ConfigError
from phoenix_secure.extensions import ExtensionPoint, register
from phoenix_secure.marks.origin import Origin
from phoenix_secure.rng import SeedTree

CPU = torch.device("cpu")
SETTINGS = ["sampling.num_steps=3", "diffusion.num_timesteps=20", "model.block_channels=[8,16]"]
SETTINGS += ["model.attention=[false,false]"]
MODELS = {
    "plain": [],
    "ddpm": ["sampling.sampler=ddpm", "diffusion.prediction=epsilon"],
    "classes-folded": ["model.class_conditional=true", "model.space_to_depth=2"],
    "edm": ["diffusion.prediction=edm"],
}
# What MONAI would evaluate, or look up elsewhere, where it stood in a configuration.
NAMES = ("$__import__('os').abort()", "@elsewhere", "%configs/x.json")
ORIGIN = Origin(model="ab" * 32, guarantee="epsilon <= 1 for one image")
SCHEMA = Path(__file__).with_name("bundle_schema.json")

# A user without this project: MONAI, and what the bundle brings.
PROGRAM = """
import sys, torch
sys.path.insert(0, "")
from monai.bundle import load, run
run(config_file="configs/inference.json", num_images=4, seed=7)
weights = load("bundle", bundle_dir="..", source="github")
assert set(weights) and all(torch.is_tensor(value) for value in weights.values())
assert not any(name.startswith("phoenix_secure") for name in sys.modules)
"""


def saved(path: Path, *overrides: str, names: tuple[str, ...] = NAMES) -> SavedModel:
    config = load_config(None, [*SETTINGS, *overrides])
    unet = build_unet(config.model, image_size=16, channels=1, num_classes=3, seeds=SeedTree(0))
    has_names = names if config.model.class_conditional else ()
    save_model(build_pipeline(unet, config), path, sampling=config.sampling, class_names=has_names)
    return load_model(path, device=CPU)


def opened(bundle: Path) -> BundleNetwork:
    network = BundleNetwork(bundle / "models")
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network.load_state_dict(weights)
    return network


def ours(model: SavedModel, *, window: tuple[float, float]) -> np.ndarray:
    """What this project samples, in the values of the window."""
    labels = torch.arange(4) % 3 if model.class_names else None
    found = sample_images(
        model.pipeline,
        num_images=4,
        sampling=model.sampling,
        generator=torch.Generator().manual_seed(7),
        class_labels=labels,
    )
    return window[0] + (found + 1) / 2 * (window[1] - window[0])


@pytest.mark.parametrize("name", MODELS)
def test_a_bundle_samples_the_images_of_its_model(tmp_path: Path, name: str) -> None:
    model = saved(tmp_path / "model", *MODELS[name])
    save_bundle(model, tmp_path / "bundle", origin=ORIGIN, window=(-1000.0, 400.0))
    drawn = sample(opened(tmp_path / "bundle"), num_images=4, seed=7, folder=_models(tmp_path))
    np.testing.assert_allclose(drawn, ours(model, window=(-1000.0, 400.0)), rtol=0, atol=0.01)


def test_its_network_is_called_as_monai_calls_one(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", *MODELS["classes-folded"])
    save_bundle(model, tmp_path / "bundle", origin=ORIGIN)
    network, noise = opened(tmp_path / "bundle").eval(), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        told = network(x=noise, timesteps=torch.tensor([3, 3]), class_labels=torch.tensor([3, 3]))
        assert torch.equal(told, network(noise, 3))  # class 3 of three is "no class"
    with pytest.raises(ValueError, match="takes no context"):
        network(noise, 3, context=noise)


def test_nothing_of_a_models_file_is_where_monai_evaluates_text(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", *MODELS["classes-folded"])
    model.pipeline.unet.register_to_config(act_fn="$__import__('os').abort()")
    with pytest.raises(ValueError, match="abort"):  # no network can be built from it
        save_bundle(model, tmp_path / "bundle", origin=ORIGIN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]

    model = saved(tmp_path / "model", *MODELS["classes-folded"])
    save_bundle(model, tmp_path / "bundle", origin=ORIGIN)
    configs = "".join(path.read_text() for path in (tmp_path / "bundle" / "configs").iterdir())
    assert not any(name in configs for name in NAMES)
    assert json.loads((_models(tmp_path) / "sampling.json").read_text())["class_names"] == [*NAMES]
    everything = [path.read_bytes() for path in (tmp_path / "bundle").rglob("*") if path.is_file()]
    assert not any(str(tmp_path).encode() in content for content in everything)


def test_what_no_bundle_can_be_is_refused(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    save_bundle(model, tmp_path / "bundle", origin=ORIGIN)
    with pytest.raises(ConfigError, match=r"bundle is there already.*--out"):
        save_bundle(model, tmp_path / "bundle", origin=ORIGIN)
    register(ExtensionPoint.NETWORK, "bundled-conv", lambda **form: torch.nn.Conv2d(1, 1, 1))
    model.pipeline.unet = OwnNetwork("bundled-conv", 16, 1)
    with pytest.raises(ConfigError, match="installed extension"):
        save_bundle(model, tmp_path / "other", origin=ORIGIN)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classes-folded", "edm"])
def test_monais_verifiers_pass_without_this_project(tmp_path: Path, name: str) -> None:
    model = saved(tmp_path / "model", *MODELS[name])
    save_bundle(model, tmp_path / "bundle", origin=ORIGIN, window=(0.0, 4095.0))
    meta = ("--meta_file", "configs/metadata.json")
    net = ("--config_file", "configs/inference.json", "--extra_forward_args", '{"timesteps": 0}')
    _run(tmp_path, "-m", "monai.bundle", "verify_metadata", *meta, "--filepath", str(SCHEMA))
    said = _run(tmp_path, "-m", "monai.bundle", "verify_net_in_out", "network_def", *meta, *net)
    assert "verified with no error" in said
    _run(tmp_path, "-c", PROGRAM)
    drawn = np.load(tmp_path / "bundle" / "samples" / "samples.npy", allow_pickle=False)
    np.testing.assert_allclose(drawn, ours(model, window=(0.0, 4095.0)), rtol=0, atol=0.05)


@pytest.mark.slow
def test_monais_verifiers_fail_where_metadata_is_wrong(tmp_path: Path) -> None:
    """The must-fail case of the test above."""
    save_bundle(saved(tmp_path / "model"), tmp_path / "bundle", origin=ORIGIN)
    file = tmp_path / "bundle" / "configs" / "metadata.json"
    content = json.loads(file.read_text())
    content["network_data_format"]["outputs"]["pred"]["num_channels"] = 3
    del content["authors"]
    file.write_text(json.dumps(content))
    meta = ("--meta_file", "configs/metadata.json")
    net = ("--config_file", "configs/inference.json", "--extra_forward_args", '{"timesteps": 0}')
    for arguments in (
        ("verify_metadata", *meta, "--filepath", str(SCHEMA)),
        ("verify_net_in_out", "network_def", *meta, *net),
    ):
        with pytest.raises(subprocess.CalledProcessError):
            _run(tmp_path, "-m", "monai.bundle", *arguments)


def _models(path: Path) -> Path:
    return path / "bundle" / "models"


def _run(path: Path, *arguments: str) -> str:
    """Run Python in the bundle's folder; everything that it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        cwd=path / "bundle",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout
