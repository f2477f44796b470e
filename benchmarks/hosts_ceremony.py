"""The whole life of a federation between machines: made, trained, changed, audited, verified."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hosts_canaries import search, secrets_of
from hosts_federation import PORT, Federation
from hosts_parties import Parties
from hosts_steps import Steps

__all__ = ["HOST", "RELAY", "SITES", "Ceremony"]

SITES = ("archive", "clinic", "hospital", "practice", "screening")
LATE, VERIFIER, RELAY, HOST = "ward", "verifier", "relay", "fl.example.org"
LOST, ROTATED, REVOKED = "practice", "clinic", "archive"


@dataclass
class Ceremony:
    """Every step of ``run`` is a row of ``steps``."""

    parties: Parties
    steps: Steps

    def __post_init__(self) -> None:
        # Owner and verifier use no network at all.
        self.parties.add("owner", VERIFIER, is_connected=False)
        self.parties.add("server", opens=PORT)
        self.parties.add(*SITES, LATE)
        self.parties.resolve(HOST, self.parties["server"].v4)
        self.federation = Federation(self.parties, host=HOST)
        # Also of keys that are deleted on the way.
        self.secrets: dict[str, dict[str, bytes]] = {}

    def run(self) -> None:
        """All steps; the sites and the server run on until ``federation.close``."""
        self.make()
        self.start()
        self.train_and_lose_a_site()
        self.add()
        self.rotate()
        self.train_and_revoke()
        self.report_and_verify()
        self.search()

    def note_secrets(self) -> None:
        """Keep every secret that is there now as a canary."""
        for party in self.parties.all:
            held = self.secrets.setdefault(party.name, {})
            known = set(held.values())
            for name, secret in secrets_of(party.root).items():
                if secret not in known:
                    held[name if name not in held else f"{name} (later)"] = secret

    def make(self) -> None:
        """Steps 1 to 4 of docs/deployment.md."""
        made, step = self.federation, self.steps.step
        everybody = ("server", *SITES)
        with step("found (owner)"):
            made.found()
        with step("init: server and 5 sites make their keys"):
            made.each(everybody, made.init)
        with step("admit: words by telephone, 6 requests"):
            made.admit(*everybody)
        with step("sign the roster, send 6 welcomes") as what:
            what.append(f"epoch {made.sign(*everybody)['epoch']}")
        with step("join: words by telephone, 6 parties"):
            made.join(1, *everybody, is_new=True)
        with step("compare the roster's words at 6 parties"):
            words = {made.words(party) for party in everybody}
            if len(words) != 1:
                raise RuntimeError("parties have different rosters")
        self.note_secrets()

    def settle(self, site: str) -> int:
        """A site's owner takes the approval key away, and says where the images are."""
        root = self.parties[site].root
        (root / "owner").mkdir(mode=0o700)
        (root / "site" / "approver.key").rename(root / "owner" / "approver.key")
        self.parties[site].give(root / "owner")
        return self.federation.bring_images(site, shares=len(SITES) + 1)

    def start(self) -> None:
        """Processes, and what doctor finds."""
        made, step = self.federation, self.steps.step
        with step("start: server and 5 sites sign on") as what:
            images = [self.settle(site) for site in SITES]
            made.start("server")
            for site in SITES:
                made.start(site)
            made.wait_for(
                "the server lets nodes in", lambda: "nodes may come" in made.log("server")
            )
            made.wait_online(*SITES)
            what.append(f"{min(images)} to {max(images)} images a site")
        with step("doctor at the server and 5 sites") as what:
            found: list[dict[str, Any]] = []
            made.each(("server", *SITES), lambda party: found.extend(self.doctor(party)))
            what.append(f"{len(found)} findings, none bad")

    def make_and_serve(self) -> None:
        """The federation with its server, and another party on the way to it; no site runs."""
        made = self.federation
        self.make()
        for site in SITES:
            self.settle(site)
        made.start("server")
        made.wait_for("the server lets nodes in", lambda: "nodes may come" in made.log("server"))
        self.parties.add(RELAY, opens=PORT)

    def doctor(self, party: str) -> list[dict[str, Any]]:
        """Findings at a party that is as it should be."""
        made = self.federation
        return list(made.facts(party, "doctor", "--federation", made.folder(party)))

    def train_and_lose_a_site(self) -> None:
        """The first plan: five sites, one of which is cut off in the second round."""
        made, step = self.federation, self.steps.step
        made.write_settings("first")
        self.offer_and_approve("first", *SITES)
        with step(f"train with DP, 3 rounds; {LOST} loses its network in the second") as what:
            for event in made.resume("first"):
                if event.get("event") != "round":
                    continue
                number = event["round_number"]
                what.append(f"round {number}: {len(event['sites'])} sites")
                self.parties.cable(LOST, plugged=number != 1)
            guarantee = self.summary("first")["guarantee"]
            what.append(f"epsilon {guarantee['epsilon']:.2f} per image at each site")

    def offer_and_approve(self, name: str, *sites: str) -> str:
        made, step = self.federation, self.steps.step
        with step(f"propose: the server offers the {name} plan, all {len(sites)} refuse"):
            plan, said = made.propose(name)
            if f"0 of {len(sites)} sites take part" not in said:
                raise RuntimeError(f"the offer ended otherwise: {said[-2000:]}")
        with step(f"read: {len(sites)} owners see it at their site"):
            made.each(sites, lambda site: self.read(site, plan))
        with step(f"approve: {len(sites)} owners sign"):
            made.approve(plan, *sites)
        return plan

    def read(self, site: str, plan: str) -> None:
        """The owner of a site's images finds the plan among those offered."""
        shown = [each["plan"] for each in self.federation.facts(site, "site", "plans", "site")]
        if plan not in shown:
            raise RuntimeError(f"{site} was not offered the plan {plan[:16]}")

    def summary(self, name: str) -> dict[str, Any]:
        path = self.parties["server"].root / "runs" / name / "summary.json"
        return dict(json.loads(path.read_text()))

    def add(self) -> None:
        """A sixth site joins."""
        made, step = self.federation, self.steps.step
        with step(f"add {LATE}: init, admit, sign, 7 join, start") as what:
            made.init(LATE)
            made.admit(LATE)
            signed = made.sign("server", *SITES, LATE)
            made.join(signed["epoch"], LATE, is_new=True)
            made.join(signed["epoch"], "server", *SITES)
            self.note_secrets()
            self.settle(LATE)
            made.start(LATE)
            made.wait_online(LATE)
            what.append(", ".join(signed["changes"]))

    def rotate(self) -> None:
        """New keys of one site."""
        made, step = self.federation, self.steps.step
        with step(f"rotate the keys of {ROTATED}: renew, admit, sign, 7 join, restart") as what:
            renewed = made.facts(ROTATED, "site", "renew", "site")
            made.send_request(ROTATED, f"site/next/{ROTATED}.request")
            made.admit(ROTATED, words=lambda site: str(renewed["words"]))
            signed = made.sign("server", *SITES, LATE)
            made.join(signed["epoch"], "server", *SITES, LATE)
            self.note_secrets()
            made.stop(ROTATED)
            (self.parties[ROTATED].root / "site" / "logs" / "supernode.node").unlink()
            made.start(ROTATED)
            made.wait_online(ROTATED)
            what.append(", ".join(signed["changes"]))

    def train_and_revoke(self) -> None:
        """The second plan: six sites, one of which is revoked while it runs."""
        made, step, everybody = self.federation, self.steps.step, (*SITES, LATE)
        made.write_settings(
            "second",
            seed=2,
            audit={"at_sites": True, "bins": 64},
            federation__rounds=5,
            federation__roster_changes="remove",
        )
        self.offer_and_approve("second", *everybody)
        title = f"train with DP, 5 rounds, and audit at the sites; {REVOKED} is revoked meanwhile"
        last: list[str] = []
        with step(title) as what:
            for event in made.resume("second"):
                if event.get("event") == "round":
                    last = event["sites"]
                    what.append(f"round {event['round_number']}: {len(event['sites'])} sites")
                    if event["round_number"] == 1:
                        what.append(self.revoke())
            pooled = self.audit()["pooled"]
            what.append(f"{pooled['sites_answered']} sites audited {pooled['num_members']} members")
        if REVOKED in last:
            raise RuntimeError(f"{REVOKED} is in a sum after it was revoked")

    def revoke(self) -> str:
        """The owner revokes a site while the run goes on; who stays takes the welcome."""
        made, stay = self.federation, tuple(site for site in (*SITES, LATE) if site != REVOKED)
        with self.steps.step(f"revoke {REVOKED}: sign, 6 join (during the training below)") as what:
            reason = ("--reason", "key stolen")
            made.type("owner", "deploy", "revoke", "chest", REVOKED, *reason)
            signed = made.sign("server", *stay)
            made.join(signed["epoch"], "server", *stay)
            what += signed["changes"]
        return f"{REVOKED} revoked"

    def audit(self) -> dict[str, Any]:
        path = self.parties["server"].root / "runs" / "second" / "audit" / "audit.json"
        return dict(json.loads(path.read_text()))

    def report_and_verify(self) -> None:
        """The server writes the report; somebody who has nothing else checks it."""
        made, step = self.federation, self.steps.step
        with step("report (server)"):
            made.type(
                *("server", "report", "build", "runs/second", "--key", "server/identity.key"),
                *("--out", "report", "--no-pdf"),
            )
        stay = [site for site in (*SITES, LATE) if site != REVOKED]
        with step("verify at a third party, with what server, sites and owner send it") as what:
            self.parties.carry("report", sender="server", receiver=VERIFIER)
            # As docs/compliance.md says: the run's folder "server" holds keys.
            run = "runs/second"
            self.parties.carry(run, sender="server", receiver=VERIFIER, without="server")
            for path in ("chest/roster.bin", "chest/federation-owner.pub"):
                self.parties.carry(path, sender="owner", receiver=VERIFIER)
            plan = self.summary("second")["plan"]
            for site in stay:
                heads, to = f"site/heads/{plan}.jsonl", f"second/sites/{site}/heads.jsonl"
                self.parties.carry(heads, sender=site, receiver=VERIFIER, to=to)
            found = made.facts(
                *(VERIFIER, "verify", "report/report.json", "--evidence", "second"),
                *("--roster", "roster.bin", "--owner-key", "federation-owner.pub"),
            )
            what.append(f"{len(found['checks'])} checks: {found['answer']}")

    def search(self) -> None:
        """Nobody's secret is in a file of anybody else, nor in one that was carried."""
        places = {party.name: party.root for party in self.parties.all}
        places |= {"the post": self.parties.out / "post"} | self.parties.left_elsewhere()
        names = self.parties.names
        with self.steps.step(f"{len(names)} users try to look into every file root") as what:
            strange_roots = {name for name in names if self.parties.opened_by(name) != (name,)}
            what.append("each opens its own alone")
        if strange_roots:
            raise RuntimeError(
                f"users look into roots of others, or not into theirs: {strange_roots}"
            )
        with self.steps.step("search every file for every secret of others") as what:
            self.note_secrets()
            finds, num_files = search(places, self.secrets)
            strange = [find for find in finds if find.owner != find.holder]
            count = sum(map(len, self.secrets.values()))
            what.append(f"{count} secrets, {num_files} files, {len(strange)} found")
        if strange:
            raise RuntimeError(f"secrets where they must not be: {strange}")
        # A search that finds nothing at all would prove nothing.
        missed = set(self.parties.names) - {VERIFIER} - {find.owner for find in finds}
        if missed:
            raise RuntimeError(f"the search did not find the secrets of {missed} at themselves")
