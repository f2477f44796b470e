"""Secure rounds in memory: real sessions and files, sites that train by a rule, and faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.engines.exchange import (
    SMALL_REPLY_BYTES,
    Failure,
    FailureCode,
    Reply,
)
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.secagg.model_rule import ModelRule
from phoenix_secure.federation.secagg.payload import Payload, encode_update
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.federation.server.attempt import Timeouts
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.model_chain import ModelChain
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.federation.server.secure_round import SecureAggregator
from phoenix_secure.federation.server.sums import KeptSums
from phoenix_secure.federation.site.exclusions import with_exclusions
from phoenix_secure.federation.site.model_state import DiskStates, SiteModel
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.federation.site.secure import SecureSite
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalUpdate
from protocol import SERVER, Identity, Roster

TIMEOUTS = Timeouts(training_deadline_s=60, training_grace_s=60, stage_deadline_s=60, grace_s=60)
# "before": the request is lost; "after": the site acts, its answer is lost; "crash": the server
# dies when the stage opens; "crash-after": when the answers are in, before it reads one.
Fault = Callable[[str, str, int], str | None]


class ServerKilled(BaseException):
    """The server's process is gone; no handler may catch it."""


def seed_key(site: str, training_round: int) -> bytes:
    node = SeedTree(0).child("site", site, "round", training_round, "rounding")
    return node.entropy().to_bytes(32, "big")


class Site:
    """A site whose update depends on its name, the round and the parameters alone."""

    def __init__(self, name: str, parties: Parties) -> None:
        self.name = name
        self.parties = parties
        self.trainings: list[int] = []
        self.log: list[dict] = []
        self.restart()

    def restart(self) -> None:
        """Lose all memory; the files stay."""
        parties = self.parties
        self.secure = SecureSite(
            parties.identities[self.name],
            roster=parties.roster,
            terms=parties.terms,
            record=SiteRecord(parties.path / self.name / "rounds.jsonl"),
            max_rounds=1000,
            rounding_key=lambda number: seed_key(self.name, number),
            note=self.note,
            model=None if parties.rule is None else self._model(parties, parties.rule),
            epoch=lambda: parties.epochs.get(self.name, parties.epoch),
        )
        self._answer = with_exclusions(
            lambda stage, body: self.secure.handle(stage, body, train=self.train),
            roster=parties.roster,
            note=self.note,
        )

    def _model(self, parties: Parties, rule: ModelRule) -> SiteModel:
        return SiteModel(
            parties.identities[self.name],
            roster=parties.roster,
            rule=rule,
            store=DiskStates(parties.path / self.name / "model", plan=rule.plan),
            num_colluders=parties.terms.num_colluders,
            epoch=lambda: parties.epochs.get(self.name, parties.epoch),
        )

    def note(self, event: str, **facts: object) -> None:
        """A line of this site's own log."""
        self.log.append({"event": event, **facts})

    def update(self, request: TrainRequest) -> LocalUpdate:
        number = sorted(self.parties.identities).index(self.name) + 1
        rng = np.random.default_rng([number, request.round_number])
        pull = 0.1 * (number - request.parameters)
        noise = rng.normal(0, 0.05, request.parameters.size)
        return LocalUpdate(
            delta=(pull + noise).astype(np.float32),
            num_images=10 * number,
            num_steps=4,
            loss=float(number),
            seconds=0.0,
        )

    def train(self, request: TrainRequest) -> LocalUpdate:
        self.trainings.append(request.round_number)
        return self.update(request)

    def payload(self, training_round: int, parameters: np.ndarray) -> Payload:
        """What this site enters, in the clear: for oracles."""
        request = TrainRequest(round_number=training_round, parameters=parameters)
        return encode_update(
            self.update(request),
            terms=self.parties.terms,
            rounding_key=seed_key(self.name, training_round),
        )

    def handle(self, stage: str, body: bytes) -> bytes:
        return self._answer(stage, body)


class Parties:
    """n sites and a server with files below ``path``."""

    def __init__(
        self, path: Path, *overrides: str, num_sites: int = 5, num_parameters: int = 12
    ) -> None:
        self.path = path
        settings = [f"partition.num_sites={num_sites}", "secure_aggregation.clip_norm=1000"]
        self.config = load_config(None, [*settings, *overrides])
        self.terms: SecureTerms = choose_terms(
            self.config, num_parameters=num_parameters, largest_site=10 * num_sites
        )
        suite = self.terms.suite
        self.server = Identity.generate(SERVER, suite=suite)
        names = [f"site-{k:02d}" for k in range(1, num_sites + 1)]
        self.identities = {name: Identity.generate(name, suite=suite) for name in names}
        owner = Identity.generate("owner", suite=suite)
        self.roster = Roster.create(
            federation_id="tests",
            owner_key=owner.public_key,
            server_key=self.server.public_key,
            keys={name: identity.public_key for name, identity in self.identities.items()},
        )
        # In force, and what single parties hold in its place.
        self.epoch = RoundEpoch.fixed(self.roster)
        self.epochs: dict[str, RoundEpoch] = {}
        for name in names:
            SiteRecord.create(path / name / "rounds.jsonl")
        SecureJournal.create(path / "server" / "rounds.jsonl")
        self.rule: ModelRule | None = None
        if self.config.secure_aggregation.broadcast == "sum":
            self.rule = ModelRule.of(
                self.config, terms=self.terms, plan=bytes(range(32)), start=self.zeros
            )
            self.state: ServerState = self.rule.start().state
        self.sites = {name: Site(name, self) for name in names}
        self.names = tuple(names)
        self.engine = LoopEngine(self)
        self.stages: list = []
        self.excluded: list = []  # as a server's evidence would hear of them

    def chain(self) -> ModelChain | None:
        """The server's side of a model that sites compute, from ``state``, as after a restart."""
        if self.rule is None:
            return None
        return ModelChain(
            self.state,
            rule=self.rule,
            roster=self.roster,
            sums=KeptSums(
                self.path / "server" / "sums", keep=3, packed_size=self.rule.step.packed_size
            ),
            journal=SecureJournal(self.path / "server" / "rounds.jsonl"),
            epoch=lambda: self.epochs.get(SERVER, self.epoch),
        )

    def next_round(self, aggregator: SecureAggregator | None = None):
        """One round from ``state``, which moves on; by a server that has just been started, if
        none is given."""
        request = TrainRequest(
            round_number=self.state.round_number + 1, parameters=self.state.parameters
        )
        stages = (aggregator or self.aggregator()).aggregate(request, cohort=self.names)
        while True:
            try:
                self.stages.append(next(stages))
            except StopIteration as end:
                self.state = end.value.state
                return end.value

    def aggregator(self, *, max_attempts: int = 3) -> SecureAggregator:
        """A server that has just been started."""
        return SecureAggregator(
            self.engine,
            party=ServerParty(identity=self.server, roster=self.roster, round_roster=self.roster),
            terms=self.terms,
            journal=SecureJournal(self.path / "server" / "rounds.jsonl"),
            timeouts=TIMEOUTS,
            max_attempts=max_attempts,
            on_excluded=self.excluded.append,
            chain=self.chain(),
            epoch=lambda: self.epochs.get(SERVER, self.epoch),
        )

    def sum(self, training_round: int = 1, *, max_attempts: int = 3, parameters=None):
        """One training round by a fresh server."""
        aggregator = self.aggregator(max_attempts=max_attempts)
        return self.aggregate(aggregator, training_round, parameters=parameters)

    def aggregate(self, aggregator: SecureAggregator, training_round: int, *, parameters=None):
        """One training round over all sites; ``stages`` keeps its reports."""
        request = TrainRequest(
            round_number=training_round,
            parameters=self.zeros() if parameters is None else parameters,
        )
        stages = aggregator.aggregate(request, cohort=self.names)
        while True:
            try:
                self.stages.append(next(stages))
            except StopIteration as end:
                return end.value

    def zeros(self) -> np.ndarray:
        return np.zeros(self.terms.num_parameters, np.float32)

    def oracle(self, survivors, training_round: int = 1, *, parameters=None) -> np.ndarray:
        """The mean update from plain Python integers."""
        parameters = self.zeros() if parameters is None else parameters
        payloads = [self.sites[name].payload(training_round, parameters) for name in survivors]
        num_images = sum(10 * (self.names.index(name) + 1) for name in survivors)
        scale = self.terms.max_images / num_images
        return np.array(
            [
                sum(int(p.words[j]) for p in payloads) / self.terms.scale * scale
                for j in range(self.terms.num_parameters)
            ]
        )


class LoopEngine:
    """Calls the sites one after another; ``fault`` says what goes wrong where."""

    def __init__(self, parties: Parties) -> None:
        self.parties = parties
        self.fault: Fault = lambda stage, site, exchange: None
        self.num_exchanges = 0
        self.received: list[tuple[str, str, bytes]] = []
        self.sent: list[tuple[str, str, bytes]] = []
        self.limits: dict[str, int] = {}  # what the stage allowed an answer to be

    @property
    def sites(self) -> tuple[str, ...]:
        return self.parties.names

    def exchange(
        self,
        stage: str,
        requests: Mapping[str, bytes],
        *,
        on_reply=None,
        max_reply_bytes: int | None = None,
        **_: object,
    ) -> dict:
        limit = SMALL_REPLY_BYTES if max_reply_bytes is None else max_reply_bytes
        self.limits[stage] = limit
        self.num_exchanges += 1
        answers: dict[str, Reply | Failure] = {}
        faults = {site: self.fault(stage, site, self.num_exchanges) for site in requests}
        if "crash" in faults.values():
            raise ServerKilled
        for site, body in requests.items():
            fault = faults[site]
            answers[site] = Failure(code=FailureCode.NO_REPLY)
            if fault == "before":
                continue
            self.sent.append((stage, site, bytes(body)))
            try:
                reply = self.parties.sites[site].handle(stage, bytes(body))
            except SiteFailure as failure:
                answers[site] = Failure(code=failure.code)
                continue
            if len(reply) > limit:
                answers[site] = Failure(code=FailureCode.MALFORMED)
            elif fault != "after":
                answers[site] = Reply(body=reply)
                self.received.append((stage, site, reply))
        if "crash-after" in faults.values():
            raise ServerKilled
        for site, answer in answers.items():
            if on_reply is not None and isinstance(answer, Reply):
                answers[site] = on_reply(site, answer) or Reply(body=b"")
        return answers

    def close(self) -> None:
        pass
