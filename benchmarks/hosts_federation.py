"""A federation whose parties are apart, as each of them types it, step by step in seconds."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import yaml
from hosts_parties import Parties
from sklearn.datasets import load_digits

__all__ = ["NAME", "PORT", "Federation"]

NAME, PORT = "xray", 9443
_AT_ONCE = 3
_PATIENCE_S = 900.0  # a busy machine takes minutes to start six parties
SETTINGS = {
    "data": {"image_size": 8, "channels": 1, "held_out": 0.3, "reference": 0.0},
    "model": {"block_channels": [8], "attention": [False]},
    "training": {"batch_size": 8, "local_steps": 1},
    "federation": {"rounds": 3, "deadline_s": 300},
    "privacy": {"unit": "record", "epsilon": 6.0, "sampling_rate": 0.1},
    "secure_aggregation": {
        "max_images": 512,
        "stage_deadline_s": 120,
        "training_grace_s": 8,
        "grace_s": 8,
        "retry_pause_s": 1,
    },
    "sampling": {"num_steps": 2},
    "output": {"num_samples": 2, "samples_every_rounds": 0},
    "device": "cpu",
}
POLICY = {"max_epsilon": 6.0, "max_total_epsilon": 20.0, "allow_pooled_audit": True}


class Federation:
    """Owner, server and sites among ``parties``, who reach the server as ``host``."""

    def __init__(self, parties: Parties, *, host: str, owner: str = "owner") -> None:
        self.parties, self.host, self.owner = parties, host, owner
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._shares: dict[str, int] = {}

    # What people type and read.

    def type(self, party: str, *arguments: object, code: int = 0, typed: str = "") -> str:
        """What a party's command printed.

        Raises:     RuntimeError where it ended with another exit code.
        """
        done = self.parties.type(party, *arguments, typed=typed)
        if done.returncode != code:
            said = (done.stderr + done.stdout).strip()[-2000:]
            raise RuntimeError(
                f"{party}: phoenix-secure {' '.join(map(str, arguments))} ended with "
                f"{done.returncode}: {said}"
            )
        return done.stdout

    def facts(self, party: str, *arguments: object) -> Any:
        """The same as JSON."""
        return json.loads(self.type(party, *arguments, "--format", "json"))

    def folder(self, party: str) -> str:
        """A party's own folder, as it calls it."""
        return "chest" if party == self.owner else "server" if party == "server" else "site"

    def words(self, party: str) -> str:
        """What somebody at the party reads to the telephone."""
        kind = "deploy" if party == self.owner else self.folder(party)
        return str(self.facts(party, kind, "show", self.folder(party))["words"])

    def each(self, parties: Sequence[str], act: Callable[[str], object]) -> None:
        """Parties act by themselves, a few at a time: real ones would all at once."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(act, parties))

    # The ceremony.

    def found(self) -> None:
        """The owner's first step."""
        where = ("--host", self.host, "--port", PORT)
        self.type(self.owner, "deploy", "found", "chest", "--name", NAME, *where)

    def init(self, party: str) -> None:
        """A party makes its keys and sends its request."""
        if party == "server":
            where = ("--name", NAME, "--host", self.host, "--port", PORT)
            self.type(party, "server", "init", "server", *where)
        else:
            self.type(party, "site", "init", "site", "--name", party, "--federation", NAME)
        self.send_request(party, f"{self.folder(party)}/{party}.request")

    def send_request(self, party: str, request: str) -> None:
        """A request to the owner, by mail."""
        self.parties.carry(request, sender=party, receiver=self.owner, to=f"inbox/{party}.request")

    def admit(self, *parties: str, words: Callable[[str], str] | None = None) -> None:
        """The owner telephones each, and types what it hears."""
        heard = [(words or self.words)(party) for party in parties]
        files = [f"inbox/{party}.request" for party in parties]
        replaces = [part for party in parties if words for part in ("--replaces", party)]
        typed = "".join(f"{each}\n" for each in heard)
        self.type(self.owner, "deploy", "admit", "chest", *files, *replaces, typed=typed)

    def sign(self, *receivers: str) -> dict[str, Any]:
        """The owner signs the roster and sends the welcomes."""
        signed = self.facts(self.owner, "deploy", "sign", "chest")
        for party in receivers:
            self.parties.carry(
                f"chest/welcomes/{party}.welcome",
                sender=self.owner,
                receiver=party,
                to=f"inbox/{signed['epoch']}-{party}.welcome",
            )
        return dict(signed)

    def join(self, epoch: int, *parties: str, is_new: bool = False) -> None:
        """Each party takes its welcome; a new one telephones the owner first."""
        typed = f"{self.words(self.owner)}\n" if is_new else ""

        def take(party: str) -> None:
            folder, welcome = self.folder(party), f"inbox/{epoch}-{party}.welcome"
            self.type(party, folder, "join", folder, welcome, typed=typed)

        self.each(parties, take)

    # What each does with its machine.

    def bring_images(self, party: str, *, shares: int) -> int:
        """A share of bundled digits as the site's own images, and the site's settings."""
        digits = load_digits()
        number = self._shares.setdefault(party, len(self._shares))
        images = (digits.images[number::shares] * 15).astype(np.uint8)
        path = self.parties[party].root / "images.npz"
        np.savez(path, images=images)
        self.parties[party].give(path)
        self.change(
            party,
            data={"source": "own", "name": "npz", "path": str(path)},
            device="cpu",
            policy=self.settings(party)["policy"] | POLICY,
        )
        return len(images)

    def _settings_file(self, party: str) -> str:
        return f"{self.folder(party)}/{self.folder(party)}.yaml"

    def settings(self, party: str) -> dict[str, Any]:
        text = (self.parties[party].root / self._settings_file(party)).read_text()
        return dict(yaml.safe_load(text))

    def change(self, party: str, **settings: object) -> None:
        """Edit server.yaml or site.yaml."""
        path = self.parties[party].root / self._settings_file(party)
        path.write_text(yaml.safe_dump(self.settings(party) | settings))

    def start(self, party: str, *, variables: dict[str, str] | None = None) -> None:
        """``server start`` or ``site start``."""
        folder = self.folder(party)
        self.running[party] = self.parties.start(
            party, folder, "start", folder, log=f"{folder}.log", variables=variables
        )

    def stop(self, party: str) -> None:
        """SIGTERM, as a service is stopped."""
        process = self.running.pop(party, None)
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, party: str) -> str:
        """What a started party printed."""
        return (self.parties[party].root / f"{self.folder(party)}.log").read_text()

    def wait_for(
        self, what: str, is_there: Callable[[], bool], *, timeout_s: float = _PATIENCE_S
    ) -> None:
        """Wait for something to happen.

        Raises:     RuntimeError naming it.
        """
        end = time.monotonic() + timeout_s
        while not is_there():
            ended = [name for name, process in self.running.items() if process.poll() is not None]
            if ended:
                raise RuntimeError(f"{ended[0]} ended: {self.log(ended[0])[-500:]}")
            if time.monotonic() > end:
                raise RuntimeError(f"{what}: not within {timeout_s:.0f} s")
            time.sleep(0.1)

    def wait_online(self, *sites: str) -> None:
        """Until the nodes of these sites have signed on."""
        for site in sites:
            node = self.parties[site].root / "site" / "logs" / "supernode.node"
            self.wait_for(f"{site} signs on", node.exists)

    def wait_for_door(self) -> None:
        """Until the server finds its own door as it should be."""
        looks = ("doctor", "--federation", "server")
        self.wait_for("the door", lambda: self.parties.type("server", *looks).returncode == 0)

    # A plan.

    def write_settings(self, name: str, **more: object) -> None:
        """The run's settings at the server."""
        path = self.parties["server"].root / f"{name}.yaml"
        settings = {k: dict(v) if isinstance(v, dict) else v for k, v in SETTINGS.items()}
        for key, value in more.items():
            section, _, setting = key.partition("__")
            if setting:
                settings.setdefault(section, {})[setting] = value
            else:
                settings[section] = value
        path.write_text(yaml.safe_dump(settings))
        self.parties["server"].give(path)

    def propose(self, name: str) -> tuple[str, str]:
        """The server offers the plan, which nobody has approved: its hash, and what is said."""
        where = ("--federation", "server", "--run-dir", f"runs/{name}")
        done = self.parties.type("server", "run", f"{name}.yaml", *where)
        facts = self.parties["server"].root / "runs" / name / "federation.json"
        if done.returncode == 0 or not facts.exists():
            raise RuntimeError(f"the offer ended otherwise: {done.stderr[-2000:]}")
        return str(json.loads(facts.read_text())["plan"]), done.stderr

    def approve(self, plan: str, *sites: str) -> None:
        """Each owner signs the plan at its own site, which shows it once more."""
        options = ("--key", "owner/approver.key", "--yes")
        self.each(sites, lambda site: self.type(site, "site", "approve", "site", plan, *options))

    def resume(self, name: str) -> Iterator[dict[str, Any]]:
        """Events of ``resume`` at the server, as they come.

        Raises:     RuntimeError where it does not end with 0.
        """
        log = f"{name}.jsonl"
        where = ("--federation", "server", "--format", "json")
        process = self.parties.start("server", "resume", f"runs/{name}", *where, log=log)
        path, seen = self.parties["server"].root / log, 0
        try:
            while True:
                is_over = process.poll() is not None
                lines = path.read_text().splitlines(keepends=True)
                for line in lines[seen:]:
                    if line.endswith("\n"):
                        seen += 1
                        with contextlib.suppress(ValueError):
                            yield json.loads(line)
                if is_over:
                    break
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if process.returncode != 0:
            raise RuntimeError(
                f"resume ended with {process.returncode}: {path.read_text()[-2000:]}"
            )

    def close(self) -> None:
        """Stop whoever runs."""
        for party in list(self.running):
            self.stop(party)
