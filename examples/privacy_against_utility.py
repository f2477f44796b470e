"""One run at three epsilons, and without privacy: what does each cost in quality?

    python examples/privacy_against_utility.py

For figures worth quoting use a sweep (docs/experiments.md): more rounds, images and seeds.
"""

from __future__ import annotations

import phoenix_secure as ps

SETTINGS = {
    "data": {"name": "digits"},
    "partition": {"num_sites": 5, "scheme": "iid"},
    "model": {"block_channels": [8, 16], "attention": [False, False]},
    "training": {"batch_size": 32, "local_steps": 4, "learning_rate": 0.003},
    "federation": {"rounds": 2},
    "sampling": {"num_steps": 10},
    "evaluation": {"num_images": 100},
    "device": "cpu",
}

if __name__ == "__main__":
    print("epsilon      KID")
    for epsilon in (None, 10, 3, 1):
        privacy = {"unit": "record", "epsilon": epsilon, "sampling_rate": 0.1}
        settings = SETTINGS | ({} if epsilon is None else {"privacy": privacy})
        result = ps.run(settings, run_dir=f"runs/epsilon-{epsilon}", overwrite=True)
        kid = (result.summary.quality or {})["rows"]["generated"]["kid"]
        print(f"{'none' if epsilon is None else epsilon:<8} {kid:8.3f}")
