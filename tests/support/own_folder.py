"""A real site behind an approved plan, with its own folder of pictures: folder in, answer out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from phoenix_secure.config_file import load_config
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.device import pick_devices
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_installation import installer
from phoenix_secure.federation.heterogeneity.deployment import deployment_strategies
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.rng import SeedTree

SETTINGS = [
    *("data.name=digits", "data.image_size=8", "data.channels=1"),
    *("data.held_out=0.2", "data.reference=0.1", "partition.num_sites=5"),
    *("model.block_channels=[8,16]", "model.attention=[false,false]"),
    *("training.batch_size=8", "training.local_steps=2", "federation.rounds=2"),
    *("evaluation.num_images=0", "sampling.num_steps=2", "device=cpu"),
]
PERSONS = ["data.name=image-folder", "data.path=own", "data.group=folder:1"]
RECORD = ["privacy.unit=record", "privacy.noise_multiplier=1.0", "privacy.sampling_rate=0.3"]


class OwnFolderSite:
    """The site ``name`` of the federation in ``root``, which the first of its sites makes.

    persons    whose each image is: the name of its sub-folder (``PERSONS`` reads it)
    """

    def __init__(
        self,
        root: Path,
        *,
        images: Iterable[np.ndarray],
        name: str = "site-01",
        persons: Sequence[str] | None = None,
    ) -> None:
        if not (root / "f").exists():
            sites = tuple(numbered_sites(5))
            initialise(root / "f", Deployment(federation="trial", sites=sites, rehearsal=True))
        self.root, self.images = root, root / f"images-of-{name}"
        self.images.mkdir()
        for number, image in enumerate(images):
            self.add(image, f"{number:03}.png", person="" if persons is None else persons[number])
        self.folder = SiteFolder(root / "f" / "sites" / name)
        changed = yaml.safe_load(self.folder.settings_file.read_text())
        changed["data"] = {"source": "own", "name": "image-folder", "path": str(self.images)}
        self.folder.settings_file.write_text(yaml.safe_dump(changed))
        self.roster = ServerFolder(root / "f" / "server").roster()

    def add(self, image: np.ndarray, name: str, *, person: str = "") -> None:
        path = self.images / person / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)

    def plan(self, *overrides: str) -> Plan:
        config = load_config(None, [*SETTINGS, *overrides])
        return Plan.make(config, roster=self.roster, bundle_hash="ab" * 32)

    def install(self, plan: Plan) -> Callable[[str, bytes], bytes]:
        settings = self.folder.settings()
        return installer(
            self.folder,
            settings,
            approver=self.folder.approver(settings),
            cancelled=threading.Event(),
            cache_dir=self.root / "cache",
        )(plan)

    def answer(self, plan: Plan) -> bytes:
        """The answer to round 1, asked with weights of zero."""
        weights = np.zeros(self.num_parameters(plan), np.float32)
        request = TrainRequest(round_number=1, parameters=weights)
        return self.install(plan)("train", request.to_bytes())

    def num_parameters(self, plan: Plan) -> int:
        return deployment_strategies(
            plan.config,
            seeds=SeedTree(plan.config.seed),
            device=pick_devices("cpu")[0],
            cache_dir=self.root / "cache",
        ).exchange.num_uploaded


def digit_pictures(num_images: int) -> list[np.ndarray]:
    """(8, 8) uint8 each."""
    return [image[0] for image in load_digits().images[:num_images]]
