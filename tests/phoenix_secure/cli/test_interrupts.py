"""Real processes, really killed: resume ends with the weights of an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

ROUNDS = 8


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "phoenix_secure", *arguments]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PHOENIX_DATA_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}


def final_weights(run: Path) -> dict[str, bytes]:
    tensors = load_file(run / "checkpoints" / f"round-{ROUNDS:06d}.safetensors")
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


def rounds_done(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def stop_after(
    process: subprocess.Popen, run: Path, *, rounds: int, delay_s: float, how: int
) -> None:
    """Signal the process ``delay_s`` after it has finished so many rounds."""
    while rounds_done(run) < rounds and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay_s)
    process.send_signal(how)
    process.wait(60)


def check(tmp_path: Path, config_file: Path, moments: list[tuple[int, int, float]]) -> None:
    settings = [str(config_file), f"federation.rounds={ROUNDS}", "training.local_steps=4"]
    environ = environment(tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(
        command("run", *settings, "--run-dir", str(whole)),
        env=environ,
        check=True,
        capture_output=True,
    )
    arguments = ["run", *settings, "--run-dir", str(cut)]
    for how, rounds, delay_s in moments:
        process = subprocess.Popen(
            command(*arguments),
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A test run started in the background inherits an ignored SIGINT; a terminal does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        stop_after(process, cut, rounds=rounds, delay_s=delay_s, how=how)
        # A process that was still loading dies of the signal itself, having touched nothing.
        assert process.returncode in (0, 130, -how)
        process.communicate()
        if (cut / "config.yaml").exists():
            arguments = ["resume", str(cut)]
    last = subprocess.run(command(*arguments), env=environ, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert final_weights(cut) == final_weights(whole)
    assert rounds_done(cut) == ROUNDS
    models = [folder / "model/unet/diffusion_pytorch_model.safetensors" for folder in (cut, whole)]
    assert models[0].read_bytes() == models[1].read_bytes()
    assert not list(cut.rglob(".*.tmp"))


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
