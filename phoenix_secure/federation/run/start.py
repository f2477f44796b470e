"""Looks up the model that a run starts from, and what was promised to the images behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from phoenix_secure.config import (
    CLASSIFIER,
    DiffusionConfig,
    EarlierGuarantee,
    ModelConfig,
    RunConfig,
    StartConfig,
)
from phoenix_secure.diffusion.start_model import FoundModel, keep_model, kept_start, open_found
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.start_release import keep_release
from phoenix_secure.federation.run.summary import read_summary

__all__ = ["add_model", "with_start"]

_HUB, _KEPT = "hf://", "sha256:"
_WEIGHTS = ["*.json", "*.safetensors"]  # never code, never pickles


def with_start(config: RunConfig) -> RunConfig:
    """These settings with ``model.init_from`` looked up, kept, and spelt out by its hash.

    The network and the noising process of the model take the place of those in the settings.

    Raises:     CheckpointError where there is no such model; ConfigError for settings that do not
                go with one.
    """
    if config.release.is_first_of_two:
        raise ConfigError(
            "release.share below 1 makes two runs, one after the other, which a simulation does by "
            "itself; between machines run the release with share 1, then the steps with "
            "model.init_from and privacy.with_start=true"
        )
    name = config.model.init_from
    if name is None or config.model.start is not None:
        return config
    if config.model.network == CLASSIFIER:
        return _with_release(config, Path(name).expanduser())
    if config.model.network != "unet":
        raise ConfigError("model.init_from is for model.network=unet: leave one of them out")
    if config.release.is_on and config.release.then == "none":
        raise ConfigError(
            "model.init_from: a release's generator starts from nothing; set release.then=ddpm"
        )
    found, start = _found(name)
    keep_model(found, start)
    return _spelt_out(config, found, start)


def _with_release(config: RunConfig, path: Path) -> RunConfig:
    """These settings with the release behind ``model.init_from`` kept and spelt out."""
    run = _run_of(path)
    sha256 = keep_release(path if run is None else run.model)
    start = StartConfig(
        sha256=sha256,
        origin="folder" if run is None else "run",
        earlier=() if run is None else _promised(run),
    )
    spelt = {"init_from": f"{_KEPT}{sha256}", "start": start}
    return config.model_copy(update={"model": config.model.model_copy(update=spelt)})


def add_model(name: str) -> StartConfig:
    """Keep the model ``name`` (as in ``model.init_from``), so that plans may start from it.

    Raises:     CheckpointError, ConfigError, StorageError.
    """
    found, start = _found(name)
    keep_model(found, start)
    return start


def _found(name: str) -> tuple[FoundModel, StartConfig]:
    if name.startswith(_KEPT):
        return kept_start(name.removeprefix(_KEPT))
    if name.startswith(_HUB):
        found = open_found(_downloaded(name.removeprefix(_HUB)))
        return found, StartConfig(sha256=found.sha256, origin="hub")
    path = Path(name).expanduser()
    if not path.exists():
        raise CheckpointError(
            f"model.init_from: there is no {name}: give a run's folder, a diffusers folder, or "
            f"hf://OWNER/NAME for a model of the Hugging Face hub"
        )
    run = _run_of(path)
    if run is None:
        found = open_found(path)
        return found, StartConfig(sha256=found.sha256, origin="folder")
    earlier = _promised(run)
    if not (run.model / "model_index.json").exists():
        raise CheckpointError(
            f"model.init_from: {path} made no diffusion model: use a run of rounds, or a release "
            "with release.then=ddpm"
        )
    found = open_found(run.model)
    return found, StartConfig(sha256=found.sha256, origin="run", earlier=earlier)


def _run_of(path: Path) -> RunFolder | None:
    """The run whose folder, or whose model, ``path`` is."""
    for folder in (path, path.resolve().parent):
        run = RunFolder(folder)
        if run.config_file.exists() and (folder == path or run.model.resolve() == path.resolve()):
            return run
    return None


def _promised(run: RunFolder) -> tuple[EarlierGuarantee, ...]:
    """The guarantees behind a finished run's model, its own last.

    Raises:     CheckpointError for a run that is not finished.
    """
    guarantee: Mapping[str, Any] = read_summary(run.path).guarantee or {"unit": "none"}
    start = run.load_config().model.start
    before = () if start is None else start.earlier
    if start is not None and start.origin != "run":
        before = (EarlierGuarantee(unit="none"),)
    own = EarlierGuarantee(
        unit=guarantee["unit"],
        epsilon=guarantee.get("epsilon"),
        delta=guarantee.get("delta"),
        events=tuple(json.dumps(each, sort_keys=True) for each in guarantee.get("events", ())),
    )
    return (*before, own)


def _spelt_out(config: RunConfig, found: FoundModel, start: StartConfig) -> RunConfig:
    own = {**found.model, "init_from": f"{_KEPT}{found.sha256}", "start": start.model_dump()}
    try:
        spelt = config.model_copy(
            update={
                "model": ModelConfig.model_validate(config.model.model_dump() | own),
                "diffusion": DiffusionConfig.model_validate(
                    config.diffusion.model_dump() | dict(found.diffusion)
                ),
            }
        )
        RunConfig.model_validate(spelt.model_dump())  # the sections still agree
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"model.init_from: with the settings of that model, {message}") from error
    return spelt


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_WEIGHTS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"model.init_from: hf://{name} cannot be fetched ({type(error).__name__}): check the "
            "name and the network, or give a folder that holds it"
        ) from error
