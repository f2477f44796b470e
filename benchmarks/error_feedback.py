"""Cost of narrow words, and gain of error feedback: final weights against 32 bits.

python benchmarks/error_feedback.py            # digits, five sites, 40 rounds: two minutes
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from phoenix_secure.config_file import load_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

BASE = [
    "data.name=digits",
    "partition.num_sites=5",
    "model.block_channels=[16,32]",
    "model.attention=[false,false]",
    "training.batch_size=16",
    "training.local_steps=5",
    "training.learning_rate=0.002",
    "evaluation.num_images=0",
    "output.samples_every_rounds=0",
    "output.num_samples=4",
    "sampling.num_steps=2",
    "device=cpu",
]


def run(*overrides: str) -> tuple[np.ndarray, np.ndarray, int, float]:
    """Start, final weights, bytes up, last loss."""
    config = load_config(None, [*BASE, *overrides])
    with tempfile.TemporaryDirectory() as name:
        federation = Run(SimulatedSites(config, cache_dir=default_cache_dir()))
        folder = RunFolder(Path(name) / "run")
        with folder.lock():
            state = federation.start(folder, overwrite=True)
            start = state.parameters.copy()
            for _ in federation.rounds(state, folder):
                pass
        lines = folder.read_metrics()
        final = folder.load_state(config=config).parameters
    return start, final, sum(line["bytes_up"] for line in lines), float(lines[-1]["loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    rounds = f"federation.rounds={arguments.rounds}"
    start, reference, _, _ = run(rounds, "secure_aggregation.word_bits=32")
    table = Table(title=f"digits, five sites, {arguments.rounds} rounds")
    for column in ("words", "error feedback", "clip value", "off by", "MB up", "last loss"):
        table.add_column(column, justify="right")
    for bits in (32, 24, 16):
        for clip in ("1.0", "0.1"):
            for feedback in ("false", "true"):
                _, final, up, loss = run(
                    rounds,
                    f"secure_aggregation.word_bits={bits}",
                    f"secure_aggregation.clip_value={clip}",
                    f"exchange.error_feedback={feedback}",
                )
                # Relative to the way that training went: 1 % is one hundredth of it.
                off = np.linalg.norm(final - reference) / np.linalg.norm(reference - start)
                table.add_row(
                    str(bits), feedback, clip, f"{off:.2%}", f"{up / 1e6:.1f}", f"{loss:.4f}"
                )
    Console().print(table)


if __name__ == "__main__":
    main()
