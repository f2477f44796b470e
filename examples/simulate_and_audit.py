"""Train over five simulated sites, then attack the model and what the server saw.

python examples/simulate_and_audit.py
"""

from __future__ import annotations

import phoenix_secure as ps

SETTINGS = {
    "data": {"name": "digits", "max_images": 600},
    "partition": {"num_sites": 5, "scheme": "iid"},
    "model": {"block_channels": [16, 32], "attention": [False, False]},
    "training": {"batch_size": 16, "local_steps": 10, "learning_rate": 0.003},
    "federation": {"rounds": 3},
    "sampling": {"num_steps": 10},
    "evaluation": {"num_images": 0},
    "device": "cpu",
}

if __name__ == "__main__":
    result = ps.run(SETTINGS, run_dir="runs/simulate", overwrite=True)
    found = result.audit(profile="smoke", attacks=["loss", "pia"])
    print(found.report.verdict.headline)
    for attack in found.report.attacks:
        auc = attack.auc
        print(f"{attack.name}: AUC {auc.value:.3f}, between {auc.low:.3f} and {auc.high:.3f}")
    print(f"look at {result.path / 'samples.png'} and {found.folder / 'audit.md'}")
