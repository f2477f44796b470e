"""One stage over a real SuperLink with TLS; the whole conformance suite is marked slow."""

from __future__ import annotations

from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply


def test_stage_and_code_travel_over_tls_to_a_real_supernode(one_flower_site, order) -> None:
    engine = one_flower_site.engine
    assert engine.sites == ("site-01",)
    answers = engine.exchange("train", {"site-01": order("echo", say="hello")}, deadline_s=60)
    assert answers == {"site-01": Reply(body=b"site-01/plan-of-this-test/train/hello")}
    refused = engine.exchange("train", {"site-01": order("refuse")}, deadline_s=60)
    assert refused == {"site-01": Failure(code=FailureCode.REFUSED)}
    logs = "".join(path.read_text() for path in one_flower_site.root.glob("*.log"))
    assert "Traceback" not in logs
