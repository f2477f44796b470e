"""A server that holds the real keys of its federation and does not keep to the protocol.

Where it pays to look honest it drives the library's own ``ServerSession``; everything else it
forges and signs with the server's key, as somebody who took over that machine could.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.stages import PLAN_STAGE
from phoenix_secure.federation.run.plan import plan_roster
from phoenix_secure.federation.secagg.offers import RoundOffer
from phoenix_secure.federation.server.attempt import STAGES
from protocol import RoundSpec, ServerSession
from protocol.events import RoundCompleted
from protocol.messages import Envelope, MaskedInput, RoundAnnouncement, seal
from protocol.words import unpack


class DishonestServer:
    """Asks the real sites of ``federation`` what it likes, under the approved plan of ``job``."""

    def __init__(self, federation, job) -> None:
        self._federation = federation
        self.sites = federation.sites
        self.plan = job.backend.plan
        self.terms = job.backend.terms
        self.identity = federation.server.identity(federation.server.roster())
        self.roster = plan_roster(federation.server.roster(), job.backend.plan)
        self._parameters = job.backend.model.initial_parameters
        self._engine = federation.engine(job.backend.plan.hash)
        self.replies: list[tuple[str, str, bytes]] = []
        ready = self.ask(PLAN_STAGE, dict.fromkeys(self.sites, job.backend.plan.to_bytes()))
        assert all(isinstance(answer, Reply) for answer in ready.values()), ready
        self.replies.clear()

    def close(self) -> None:
        self._engine.close()

    def ask(self, stage: str, requests: dict[str, bytes]) -> dict:
        """One exchange; every answer is kept, as evidence of what could be learnt."""
        answers = self._engine.exchange(stage, requests, deadline_s=120)
        for site, answer in answers.items():
            if isinstance(answer, Reply):
                self.replies.append((stage, site, answer.body))
        return answers

    def model(self, *, training_round: int = 1, moved_by: float = 0.0) -> bytes:
        parameters = self._parameters + np.float32(moved_by)
        return TrainRequest(round_number=training_round, parameters=parameters).to_bytes()

    def spec(
        self, model: bytes, *, protocol_round: int = 1, previous: bytes = bytes(32)
    ) -> RoundSpec:
        """What an honest server would offer."""
        return self.terms.spec(
            roster=self.roster,
            cohort=self.sites,
            protocol_round=protocol_round,
            model=model,
            previous=previous,
        )

    def offer(self, spec: RoundSpec, model: bytes, *, base: int = 0) -> bytes:
        """The announcement of ``spec``, correctly signed, whatever it says."""
        return RoundOffer(
            announcement=self.signed(RoundAnnouncement(spec=spec), spec),
            round_number=TrainRequest.from_bytes(model).round_number,
            base=base,
        ).to_bytes()

    def signed(self, body, spec: RoundSpec) -> bytes:
        return seal(self.identity, label=body.LABEL, context=spec.context, body=body.encode())

    def session(self, spec: RoundSpec) -> ServerSession:
        session = ServerSession(self.identity, roster=self.roster, spec=spec)
        session.start()
        return session

    def honestly(self, spec: RoundSpec, model: bytes, *, until: str):
        """Every stage through ``until`` by the rules.

        Returns the session and the requests of the stage that would follow.
        """
        session = self.session(spec)
        requests = dict.fromkeys(spec.cohort, self.offer(spec, model))
        for stage in STAGES[: STAGES.index(until) + 1]:
            answers = self.ask(stage, requests)
            for site, answer in answers.items():
                assert isinstance(answer, Reply), (stage, site, answer)
                session.receive(site, answer.body)
            step = session.close_stage()
            requests = step.outbound
        self.completed = next((e for e in step.events if isinstance(e, RoundCompleted)), None)
        return session, requests

    def is_refused(
        self,
        stage: str,
        requests: dict[str, bytes],
        *,
        why: str,
        code: FailureCode = FailureCode.REFUSED,
    ) -> None:
        """Every site asked refuses with nothing but a code, and writes down which rule it was."""
        answers = self.ask(stage, requests)
        assert set(answers.values()) == {Failure(code=code)}
        for site in answers:
            line = self._federation.site(site).audit().lines()[-1]
            assert (line["event"], line["stage"]) == ("refused", stage)
            assert line["plan"] == self.plan.hash
            assert line["request"] == hashlib.sha256(requests[site]).hexdigest()
            assert why in line["why"], line["why"]

    def answered(self, stage: str) -> list[str]:
        """Sites that say in their own record that they answered ``stage`` of this plan."""
        return [
            site
            for site in self.sites
            for line in self._federation.site(site).audit().lines()
            if (line.get("plan"), line.get("stage")) == (self.plan.hash, stage)
            and line["event"].startswith("answered")
        ]

    def sees_only_noise(self, spec: RoundSpec) -> bool:
        """Whether no masked vector in hand, and no sum of some of them, looks like an update.

        An update fills a small part of the words' range: its top byte is 0 or 255. Under a mask
        all 256 values are equally likely.
        """
        vectors = []
        for stage, site, body in self.replies:
            if stage != "mask":
                continue
            envelope = Envelope.parse(body, peer=site, max_size=len(body))
            if envelope.context == spec.context:
                packed = MaskedInput.decode(envelope.body, peer=site, size=spec.masked_size).packed
                vectors.append(
                    unpack(
                        packed, word_bits=spec.word_bits, num_words=spec.total_words, peer=site
                    ).astype(np.uint64)
                )
        subsets = [[vector] for vector in vectors]
        subsets += [vectors[:k] for k in range(2, len(vectors) + 1)]
        tops = [
            (np.sum(subset, axis=0)[: spec.num_words] >> (spec.word_bits - 8)) & 255
            for subset in subsets
        ]
        # 2 of 256 values: 0.8 % by chance.
        return all(np.isin(top, (0, 255)).mean() < 0.02 for top in tops)


def forged(spec: RoundSpec, **changes: object) -> RoundSpec:
    """A specification that no honest program could build."""
    made = object.__new__(RoundSpec)
    for field in dataclasses.fields(RoundSpec):
        value = changes.get(field.name, getattr(spec, field.name))
        object.__setattr__(made, field.name, value)
    return made
