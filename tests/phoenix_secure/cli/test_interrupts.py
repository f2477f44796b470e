"""Real processes, really killed: resume ends with the weights of an uninterrupted run."""

from __future__ import annotations

import functools
import os
import random
import signal
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from warm_processes import CommandProcess

ROUNDS = 8


def command(*arguments: object, cache: Path, output: Path) -> CommandProcess:
    environ = {**os.environ, "PHOENIX_DATA_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    return CommandProcess(*arguments, output=output, environ=environ)


def final_weights(run: Path) -> dict[str, bytes]:
    tensors = load_file(run / "checkpoints" / f"round-{ROUNDS:06d}.safetensors")
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


def rounds_done(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def stop_after(process: CommandProcess, run: Path, *, rounds: int, delay_s: float, how: int) -> int:
    """Signal the process ``delay_s`` after it has finished so many rounds; its exit code."""
    while rounds_done(run) < rounds and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay_s)
    process.send_signal(how)
    return process.wait()


def check(tmp_path: Path, config_file: Path, moments: list[tuple[int, int, float]]) -> None:
    start = functools.partial(command, cache=tmp_path / "cache", output=tmp_path / "printed")
    settings = [config_file, f"federation.rounds={ROUNDS}", "training.local_steps=4"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    uncut = start("run", *settings, "--run-dir", whole)
    assert uncut.wait() == 0, uncut.printed
    arguments: list[object] = ["run", *settings, "--run-dir", cut]
    for how, rounds, delay_s in moments:
        code = stop_after(start(*arguments), cut, rounds=rounds, delay_s=delay_s, how=how)
        # A process that was still starting dies of the signal itself, having touched nothing.
        assert code in (0, 130, -how)
        if (cut / "config.yaml").exists():
            arguments = ["resume", cut]
    last = start(*arguments)
    assert last.wait() == 0, last.printed
    assert final_weights(cut) == final_weights(whole)
    assert rounds_done(cut) == ROUNDS
    models = [folder / "model/unet/diffusion_pytorch_model.safetensors" for folder in (cut, whole)]
    assert models[0].read_bytes() == models[1].read_bytes()
    assert not list(cut.rglob(".*.tmp"))


@pytest.mark.long
def test_killed_and_interrupted_run_ends_with_the_same_weights(
    tmp_path: Path, config_file: Path
) -> None:
    check(tmp_path, config_file, [(signal.SIGKILL, 2, 0.0), (signal.SIGINT, 5, 0.05)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_three_random_moments(tmp_path: Path, config_file: Path, seed: int, how: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    moments = sorted(chance.randint(0, ROUNDS - 1) for _ in range(3))
    check(tmp_path, config_file, [(how, moment, chance.random() * 0.3) for moment in moments])
