"""A federation whose parties make their own keys, as each of them types it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import yaml

from ceremony import files_of
from command_line import Outcome, phoenix
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_process import SiteProcess

pytestmark = pytest.mark.long

SITES = ("archive", "clinic", "hospital", "practice", "screening")
SETTINGS = """\
data: {name: digits, image_size: 8, channels: 1, max_images: 200}
model: {block_channels: [8], attention: [false]}
training: {batch_size: 8, local_steps: 1}
federation: {rounds: 1}
secure_aggregation: {max_images: 128, grace_s: 60, training_grace_s: 60}
sampling: {num_steps: 2}
output: {num_samples: 2, samples_every_rounds: 0}
device: cpu
"""


class Parties:
    """Who types what, each in its own folder below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        (root / "tiny.yaml").write_text(SETTINGS)

    def type(self, *arguments: object, typed: str = "", code: int = 0) -> Outcome:
        found = phoenix(*arguments, cwd=self.root, typed=typed)
        self.said += [found.out, found.err]
        assert found.code == code, found.err + found.out
        return found

    def refused(self, *arguments: object, said: str, typed: str = "") -> None:
        found = self.type(*arguments, typed=typed, code=2)
        assert said in found.err
        assert found.err.count("error: ") == 1

    def facts(self, *arguments: object) -> dict:
        return json.loads(self.type(*arguments, "--format", "json").out)

    def words(self, party: str) -> str:
        """What somebody at the party reads from the screen there."""
        return self.facts("server" if party == "server" else "site", "show", party)["words"]

    def owner(self) -> str:
        return self.facts("deploy", "show", "chest")["words"]

    def found(self, *options: object, sites: tuple[str, ...] = SITES) -> None:
        self.type("deploy", "found", "chest", "--name", "net", *options)
        self.type("server", "init", "server", "--name", "net")
        for site in sites:
            self.type("site", "init", site, "--name", site, "--federation", "net")

    def admit(self, *parties: str) -> None:
        files = [f"{party}/{party}.request" for party in parties]
        typed = "".join(f"{self.words(party)}\n" for party in parties)
        self.type("deploy", "admit", "chest", *files, typed=typed)

    def join(self, *parties: str) -> None:
        for party in parties:
            command = "server" if party == "server" else "site"
            welcome = f"chest/welcomes/{party}.welcome"
            self.type(command, "join", party, welcome, typed=f"{self.owner()}\n")


@pytest.fixture
def parties(tmp_path: Path) -> Parties:
    return Parties(tmp_path)


def test_each_step_says_what_comes_next_and_no_output_holds_a_secret(parties: Parties) -> None:
    founded = parties.type("deploy", "found", "chest", "--name", "net")
    assert "server init FOLDER --name net --host 127.0.0.1 --port 9443" in founded.out
    assert "site init FOLDER --name NAME --federation net" in founded.out
    assert parties.owner() in founded.out
    assert "no other machine reaches 127.0.0.1: give --host, or --via" in founded.out
    made = parties.type("site", "init", "clinic", "--name", "clinic", "--federation", "net")
    assert parties.words("clinic") in made.out
    assert "send clinic/clinic.request to the owner of net" in made.out
    assert "by telephone, and do not send them along" in made.out
    parties.type("server", "init", "server", "--name", "net")
    parties.admit("clinic", "server")
    assert "deploy sign chest" in parties.said[-2]
    signed = parties.type("deploy", "sign", "chest")
    assert "send chest/welcomes/clinic.welcome to clinic" in signed.out
    assert "fewer than 5 sites: secure rounds are refused" in signed.out
    parties.join("clinic", "server")
    assert "server start server" in parties.said[-2]
    everything = " ".join(parties.said)
    for name, content in files_of(parties.root).items():
        if name.endswith((".key", ".secret")):
            text = content.decode() if content.startswith(b"-----") else content.hex()
            for part in text.split("\n"):
                assert not part or part.startswith("-----") or part not in everything, name


def test_owner_admits_by_words_alone(parties: Parties) -> None:
    parties.found(sites=("clinic", "hospital"))
    admit = ("deploy", "admit", "chest", "clinic/clinic.request")
    right = parties.words("clinic")
    for typed, said in (
        ("", "nothing was done: nobody typed the words"),
        ("y\n", "expected 8 words of five letters, got 1: ask clinic to read"),
        (f"{parties.words('hospital')}\n", "the words are not those of clinic"),
    ):
        parties.refused(*admit, typed=typed, said=said)
        # Shown before they are heard, they would be copied.
        assert right not in "".join(parties.said[-2:])
    assert phoenix(*admit, "--yes", cwd=parties.root).code == 2
    assert parties.facts("deploy", "show", "chest")["admitted"] == []
    parties.refused(*admit, "--fingerprint", "lusab " * 8, said="the words are not those of clinic")
    parties.type(*admit, "--fingerprint", right.upper().replace(" ", "-"))
    assert parties.facts("deploy", "show", "chest")["admitted"] == ["clinic"]
    again = parties.type(*admit)
    assert "clinic is admitted already" in again.out
    both = ("clinic/clinic.request", "hospital/hospital.request")
    parties.refused(
        *("deploy", "admit", "chest", *both, "--fingerprint", right),
        said="2 requests need 2 times --fingerprint",
    )


def test_roster_changes_as_owner_and_parties_type_it(parties: Parties) -> None:
    parties.found()
    parties.admit("server", *SITES)
    parties.type("deploy", "sign", "chest")
    parties.join("server", *SITES)
    gone, other = SITES[:2]
    parties.type("deploy", "suspend", "chest", other)
    taken_back = parties.type("deploy", "resume", "chest", other)
    assert "with the next roster" not in taken_back.out
    decided = parties.type("deploy", "revoke", "chest", gone, "--reason", "key stolen")
    assert f"with the next roster: {gone} revoked (key stolen)" in decided.out
    assert "before `phoenix-secure deploy sign chest`" in decided.out
    assert parties.facts("deploy", "show", "chest")["pending"] == [f"{gone} revoked (key stolen)"]
    signed = parties.type("deploy", "sign", "chest")
    assert f"roster epoch 2: {gone} revoked (key stolen)" in signed.out
    assert f"{gone}.welcome" not in signed.out
    # No words are typed by who has joined.
    for party in ("server", other):
        command = "server" if party == "server" else "site"
        taken = parties.type(command, "join", party, f"chest/welcomes/{party}.welcome")
        assert f"roster epoch 2: {gone} revoked (key stolen)" in taken.out
        facts = parties.facts(command, "show", party)
        assert (facts["epoch"], facts["changes"]) == (
            2,
            [f"epoch 2: {gone} revoked (key stolen)"],
        )
    again = parties.facts("deploy", "sign", "chest", "--days", 30)
    assert (again["epoch"], again["changes"]) == (2, [])
    parties.refused("deploy", "revoke", "chest", "nobody", said="nobody cannot be revoked")
    parties.refused("deploy", "revoke", "chest", other, "--reason", "x" * 201, said="at most 200")
    request = f"{other}/gone.request"
    parties.refused("deploy", "admit", "chest", request, said="cannot be read")


def test_site_joins_by_the_owners_words_alone(parties: Parties) -> None:
    parties.found(sites=("clinic",))
    parties.admit("clinic", "server")
    parties.type("deploy", "sign", "chest")
    join = ("site", "join", "clinic", "chest/welcomes/clinic.welcome")
    for words in ("", "y\n", f"{parties.words('clinic')}\n"):
        parties.refused(*join, typed=words, said="words")
        assert not (parties.root / "clinic" / "site.yaml").exists()
    assert phoenix(*join, "--yes", cwd=parties.root).code == 2
    made = parties.facts(*join, "--owner", parties.owner())
    shown = parties.facts("site", "show", "clinic")
    assert (made["words"], made["fingerprint"]) == (shown["words"], shown["fingerprint"])
    assert made["sites"] == ["clinic"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("site", "start", "clinic"), "a party that made its own keys joins first"),
        (("doctor", "--federation", "clinic"), "server join"),
        (("server", "start", "server"), "server join"),
        (("run", "tiny.yaml", "--federation", "server"), "server join"),
        (("deploy", "sign", "clinic"), "deploy found"),
        (("deploy", "admit", "clinic", "clinic/clinic.request"), "deploy found"),
        (("site", "join", "chest", "clinic/clinic.request"), "site init"),
        (("site", "join", "clinic", "clinic/clinic.request"), "deploy sign"),
        (("deploy", "admit", "chest", "chest/roster.bin"), "check its path"),
        (("site", "init", "clinic", "--name", "c", "--federation", "net"), "another folder"),
        (("deploy", "found", "clinic"), "another folder"),
        (("deploy", "found", "new", "--host", "a_b"), "underscore"),
        (("deploy", "found", "new", "--via", "stick"), "folder:PATH"),
    ],
)
def test_wrong_turns_name_the_right_one(parties: Parties, arguments, said: str) -> None:
    parties.found(sites=("clinic",))
    parties.refused(*arguments, said=said)


def test_init_says_that_it_is_for_trials(parties: Parties) -> None:
    made = parties.type("deploy", "init", "trial", "--sites", 5)
    assert "has seen the keys of every party: for rehearsals and trials" in made.out
    assert "deploy found" in made.out
    page = parties.type("deploy", "init", "--help").out
    assert "for rehearsals and trials" in " ".join(page.split())


def test_site_renews_its_keys_in_its_folder_as_it_types_it(parties: Parties) -> None:
    parties.found(sites=("clinic",))
    parties.admit("server", "clinic")
    parties.type("deploy", "sign", "chest")
    parties.join("server", "clinic")
    made = parties.type("site", "renew", "clinic")
    words = parties.facts("site", "show", "clinic")["new keys"]
    assert words in made.out
    assert "the key of before signed the request, too" in made.out
    assert parties.facts("site", "renew", "clinic")["words"] == words
    request = "clinic/next/clinic.request"
    parties.refused("deploy", "admit", "chest", request, said="say --replaces clinic")
    admitted = parties.type(
        *("deploy", "admit", "chest", request, "--replaces", "clinic"), typed=f"{words}\n"
    )
    assert "the key that it replaces signed it, too" in admitted.out
    parties.type("deploy", "sign", "chest")
    taken = parties.type("site", "join", "clinic", "chest/welcomes/clinic.welcome")
    assert "new keys are in place, and the old ones are deleted" in taken.out
    facts = parties.facts("site", "show", "clinic")
    assert facts["changes"] == ["epoch 2: clinic rotated"]
    assert "new keys" not in facts
    other = parties.root / "elsewhere"
    parties.type("site", "init", other, "--name", "clinic", "--federation", "net")
    admitted = parties.type(
        *("deploy", "admit", "chest", "elsewhere/clinic.request", "--replaces", "clinic"),
        typed=f"{parties.words('elsewhere')}\n",
    )
    assert "did NOT sign it: ask clinic why" in admitted.out


def test_five_parties_that_made_their_own_keys_train_a_secure_round(parties: Parties) -> None:
    exchange = parties.root / "exchange"
    exchange.mkdir()
    parties.found("--via", f"folder:{exchange}")
    parties.admit("server", *SITES)
    parties.type("deploy", "sign", "chest")
    parties.join("server", *SITES)
    # One of them has new keys since.
    words = parties.facts("site", "renew", "clinic")["words"]
    request = "clinic/next/clinic.request"
    parties.type("deploy", "admit", "chest", request, "--replaces", "clinic", typed=f"{words}\n")
    parties.type("deploy", "sign", "chest")
    parties.join("server", *SITES)
    assert len({parties.words(party) for party in ("server", *SITES)}) == 1
    stop, threads = threading.Event(), []
    for name in SITES:
        site = SiteFolder(parties.root / name)
        settings = yaml.safe_load(site.settings_file.read_text())
        changed = {"data": {"source": "share-of-plan"}, "device": "cpu"}
        site.settings_file.write_text(yaml.safe_dump(settings | changed))
        process = SiteProcess(site, say=lambda text: None)
        threads.append(threading.Thread(target=process.run, args=(stop,)))
        threads[-1].start()
    try:
        offered = phoenix(
            *("run", "tiny.yaml", "--federation", "server", "--run-dir", "run"), cwd=parties.root
        )
        assert "0 of 5 sites take part" in offered.err
        plan = json.loads((parties.root / "run" / "federation.json").read_text())["plan"]
        for name in SITES:
            parties.type("site", "approve", name, plan, "--yes")
        parties.type("resume", "run", "--federation", "server")
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    summary = json.loads((parties.root / "run" / "summary.json").read_text())
    assert summary["secure"]["t"] >= 4
    assert summary["plan"] == plan, summary
    found = parties.type("doctor", "--federation", "server", "--format", "json")
    assert {line["level"] for line in json.loads(found.out)} == {"ok"}
