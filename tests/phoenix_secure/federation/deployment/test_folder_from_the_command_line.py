"""A federation of three whose messages travel in a folder, as its parties type it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from command_line import Outcome, phoenix
from phoenix_secure.cli.progress import RunDisplay
from phoenix_secure.cli.session import load_deployment_config
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.exchange_folder import (
    check_site_side,
    open_server_side,
    parse_via,
)
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.engines.envelope import Envelope
from phoenix_secure.federation.engines.exchange import Reply
from phoenix_secure.federation.engines.folder import FolderEngine, requests_of
from phoenix_secure.federation.engines.folder_site import serve_folder

SITES = ("clinic", "hospital", "practice")
SETTINGS = """\
data: {name: digits, image_size: 8, channels: 1, max_images: 200}
model: {block_channels: [8], attention: [false]}
training: {batch_size: 8, local_steps: 1}
federation: {rounds: 1}
secure_aggregation: {collusion: 0, dropout: 0, max_images: 128, grace_s: 60, training_grace_s: 60}
sampling: {num_steps: 2}
output: {num_samples: 2, samples_every_rounds: 0, report: true}
device: cpu
"""


class Consortium:
    """Three sites as threads around a folder; the server is typed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exchange = root / "exchange"
        self.exchange.mkdir()
        (root / "tiny.yaml").write_text(SETTINGS)
        sites = [word for name in SITES for word in ("--site", name)]
        self.made = self.type("deploy", "init", "f", *sites, "--via", self.via, "--rehearsal")
        assert self.made.code == 0, self.made.err
        self.said: list[str] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def via(self) -> str:
        return f"folder:{self.exchange}"

    def type(self, *arguments: object, typed: str = "") -> Outcome:
        return phoenix(*arguments, cwd=self.root, typed=typed)

    def site(self, name: str) -> SiteFolder:
        return SiteFolder(self.root / "f" / "sites" / name)

    def set_policy(self, name: str, **policy: object) -> None:
        path = self.site(name).settings_file
        settings = yaml.safe_load(path.read_text())
        settings["policy"] |= policy
        path.write_text(yaml.safe_dump(settings))

    def restart(self) -> None:
        """With the settings as they are now."""
        self.close()
        self._stop, self._threads = threading.Event(), []
        self.start()

    def start(self) -> None:
        for name in SITES:
            process = SiteProcess(self.site(name), say=self.said.append)
            self._threads.append(threading.Thread(target=process.run, args=(self._stop,)))
            self._threads[-1].start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    made = Consortium(tmp_path)
    yield made
    made.close()


def test_three_sites_train_over_a_folder_after_each_owner_allowed_it(
    consortium: Consortium,
) -> None:
    assert "only if no site works with the server" in consortium.made.out
    shown = consortium.type("run", "tiny.yaml", "--federation", "f", "--dry-run")
    assert shown.code == 0, shown.err
    assert "ONLY IF NO SITE" in shown.out
    consortium.start()
    assert any("nothing of the server has arrived yet" in line for line in consortium.said)
    offered = consortium.type("run", "tiny.yaml", "--federation", "f", "--run-dir", "run")
    assert offered.code != 0
    assert "0 of 3 sites take part and 3 are needed" in offered.err
    # Whoever would sign reads what it means, and how to allow it; until then nothing is signed.
    plan = json.loads((consortium.root / "run" / "federation.json").read_text())["plan"]
    approve = ("site", "approve", "f/sites/clinic", plan, "--yes")
    shown = consortium.type(*approve)
    assert shown.code != 0
    assert "ONLY IF NO SITE works with the server" in shown.out
    assert "policy.allow_no_colluders: true" in shown.out
    for name in SITES:
        consortium.set_policy(name, allow_no_colluders=True)
        assert consortium.type("site", "approve", f"f/sites/{name}", plan, "--yes").code == 0
    consortium.restart()
    go_on = ("resume", "run", "--federation", "f", "--via", consortium.via)
    done = consortium.type(*go_on)
    assert done.code == 0, done.err
    assert "ONLY IF NO SITE works with the server" in done.out
    summary = json.loads((consortium.root / "run" / "summary.json").read_text())
    assert (summary["secure"]["c"], summary["secure"]["t"]) == (0, 3)
    assert "ONLY IF NO SITE" in summary["secure"]["assumption"]
    report = (consortium.root / "run" / "report" / "report.json").read_text()
    assert "ONLY IF NO SITE" in report
    found = consortium.type("doctor", "--federation", "f", "--format", "json")
    assert found.code == 0, found.out
    assert {line["name"] for line in json.loads(found.out)} >= {"folder", *SITES}


@pytest.mark.long
def test_run_says_for_whom_it_waits_and_how_to_go_on_after_an_interrupt(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = RunDisplay.waiting

    def interrupt(self: RunDisplay, *told: Any) -> None:
        waiting(self, *told)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDisplay, "waiting", interrupt)
    stopped = consortium.type(
        *("run", "tiny.yaml", "--federation", "f", "--via", consortium.via, "--run-dir", "run")
    )
    assert stopped.code == 130
    assert "plan: waiting for clinic, hospital, practice, until " in stopped.out
    go_on = f"phoenix-secure resume run --federation f --via {consortium.via}"
    assert f"stopped; go on with: {go_on}" in stopped.out
    # Nothing is left that a site would answer, and the folder is free for the next one.
    assert not list(consortium.exchange.rglob("*.msg"))
    again = consortium.type("resume", "run", "--federation", "f", "--via", consortium.via)
    assert again.code == 130


def test_waiting_times_are_days_unless_somebody_set_them(consortium: Consortium) -> None:
    file = consortium.root / "tiny.yaml"
    carried = load_deployment_config(file, [], members=3, is_carried=True)
    assert carried.secure_aggregation.stage_deadline_s == 7 * 86_400
    assert carried.federation.deadline_s == 14 * 86_400
    assert carried.secure_aggregation.grace_s == 60  # the file's own
    typed = ["secure_aggregation.stage_deadline_s=5"]
    carried = load_deployment_config(file, typed, members=3, is_carried=True)
    assert carried.secure_aggregation.stage_deadline_s == 5
    networked = load_deployment_config(file, [], members=3)
    default = load_config(None).secure_aggregation.stage_deadline_s
    assert networked.secure_aggregation.stage_deadline_s == default


def test_folder_that_cannot_be_used_is_named_with_the_way_on(
    consortium: Consortium, tmp_path: Path
) -> None:
    gone, file = tmp_path / "gone", tmp_path / "file"
    file.touch()
    for via, said in (
        (f"folder:{gone}", "is missing: mount the share"),
        (f"folder:{file}", "is not a folder"),
        ("folder:/proc", "cannot be written"),
        ("stick:/x", "write folder:PATH"),
        ("folder:", "write folder:PATH"),
    ):
        for command in (
            ("run", "tiny.yaml", "--federation", "f", "--run-dir", "other"),
            ("site", "start", "f/sites/clinic"),
        ):
            found = consortium.type(*command, "--via", via)
            assert found.code == 2, found.out
            assert said in found.err
            assert len(found.err.strip().splitlines()) == 1
    assert not gone.exists()
    bad = consortium.type("doctor", "--federation", "f", "--via", f"folder:{gone}")
    assert bad.code == 1
    assert "is missing" in bad.out
    for command in (("run", "tiny.yaml"), ("resume", "run"), ("doctor",)):
        assert "--via needs --federation" in consortium.type(*command, "--via", "folder:x").err
    assert "nothing is to be started here" in consortium.type("server", "start", "f").err


def test_folder_of_another_federation_or_run_is_refused(
    consortium: Consortium, tmp_path: Path
) -> None:
    rosters = ServerFolder(tmp_path / "f" / "server").rosters()
    made = consortium.type("deploy", "init", "g", "--sites", 3, "--via", consortium.via)
    assert made.code == 0
    other = ServerFolder(tmp_path / "g" / "server").rosters()
    with open_server_side(consortium.exchange, rosters=rosters):
        with (
            pytest.raises(ConfigError, match="another run is using"),
            open_server_side(consortium.exchange, rosters=rosters),
        ):
            pass
        with pytest.raises(ConfigError, match="another federation"):
            check_site_side(consortium.exchange, site="site-01", rosters=other)
        assert check_site_side(consortium.exchange, site="clinic", rosters=rosters)
    with (
        pytest.raises(ConfigError, match="another federation"),
        open_server_side(consortium.exchange, rosters=other),
    ):
        pass
    (consortium.exchange / "federation.json").write_text('{"federa')
    with pytest.raises(ConfigError, match="cannot be read"):
        check_site_side(consortium.exchange, site="clinic", rosters=rosters)
    assert parse_via("folder:x") == Path.cwd() / "x"


# What people and programs leave of a file while they copy it, or when the stick is pulled.
PARTS: dict[str, Callable[[bytes], bytes]] = {
    "nothing yet": lambda whole: b"",
    "a few bytes": lambda whole: whole[:3],
    "part of the header": lambda whole: whole[:40],
    "part of the body": lambda whole: whole[:-1],
    "as long as it will be, and empty": lambda whole: bytes(len(whole)),
    "as long as it will be, and half filled": lambda whole: (
        whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    ),
    "all but the last block": lambda whole: whole[:-2] + bytes(2),
}


@pytest.mark.long
@pytest.mark.parametrize("part", PARTS)
def test_copy_under_way_is_read_when_it_is_whole(tmp_path: Path, part: str) -> None:
    """The site has its own copy of the folder; somebody carries files between the two."""
    there, here = tmp_path / "site's", tmp_path / "server's"
    there.mkdir()
    stop, heard, waited = threading.Event(), [], []

    def handle(request) -> bytes:
        heard.append(request.body)
        return b"answer" * 20

    def on_wait(stage: str, sites: tuple[str, ...], left_s: float) -> None:
        waited.append((stage, sites))

    engine = FolderEngine(here, sites=["clinic"], session="s", poll_s=0.01, on_wait=on_wait)
    site = threading.Thread(
        target=serve_folder,
        args=(there,),
        kwargs={"site": "clinic", "handle": handle, "stop": stop, "poll_s": 0.01},
    )
    site.start()
    requests_of(there, "clinic").make()

    def carry() -> None:
        for source, target in ((here, there), (there, here)):
            folder = "requests" if source is here else "replies"
            while not (found := list((source / "clinic" / folder).glob("*.msg"))):
                time.sleep(0.01)
            copy = target / "clinic" / folder / found[0].name
            copy.write_bytes(PARTS[part](found[0].read_bytes()))
            time.sleep(0.3)
            assert copy.exists(), "nobody takes away what is being copied"
            shutil.copyfile(found[0], copy)

    carrier = threading.Thread(target=carry)
    carrier.start()
    try:
        found = engine.exchange("x", {"clinic": b"request" * 20}, deadline_s=30)
    finally:
        carrier.join()
        stop.set()
        site.join()
    assert found == {"clinic": Reply(body=b"answer" * 20)}
    assert heard == [b"request" * 20]
    assert waited in ([], [("x", ("clinic",))])


@pytest.mark.long
def test_answer_that_stays_cut_off_is_no_answer_and_never_half_of_one(tmp_path: Path) -> None:
    waited = []
    engine = FolderEngine(
        tmp_path,
        sites=["clinic"],
        session="s",
        poll_s=0.01,
        on_wait=lambda stage, sites, left_s: waited.append((stage, sites, left_s > 0)),
    )
    reply = Envelope(kind="reply", site="clinic", session="s", stage="x", body=b"whole").to_bytes()

    def cut_off() -> None:
        requests = tmp_path / "clinic" / "requests"
        while not (found := list(requests.glob("*.msg"))):
            time.sleep(0.01)
        (tmp_path / "clinic" / "replies" / found[0].name).write_bytes(reply[:-1])

    thread = threading.Thread(target=cut_off)
    thread.start()
    (answer,) = engine.exchange("x", {"clinic": b"r"}, deadline_s=2.5).values()
    thread.join()
    assert answer.code.value == "no-reply"
    assert waited == [("x", ("clinic",), True)]
