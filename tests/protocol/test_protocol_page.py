"""``docs/protocol.md`` says what the code does: diagrams, thresholds and message sizes."""

import importlib.util
import re
from pathlib import Path

import pytest

from protocol.messages import Envelope
from protocol.parameters import choose
from protocol.suite import Suite

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "protocol.md").read_text()


def rows(heading):
    """The cells of the first table below ``heading``."""
    section = PAGE.split(heading, 1)[1]
    lines = [line for line in section.split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_diagrams_are_those_of_the_transition_tables():
    spec = importlib.util.spec_from_file_location("protocol_page", DOCS / "protocol_page.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.with_diagrams(PAGE) == PAGE, "run python docs/protocol_page.py"
    assert PAGE.count("stateDiagram-v2") == 2


def test_the_thresholds_are_those_of_the_rule():
    table = [row for row in rows("## 2. Parameters") if row[0].isdigit()]
    assert len(table) == 6
    for n, gamma, c, t, spare in table:
        fraction = 1 / 3 if gamma == "1/3" else float(gamma)
        graph = choose(int(n), roster_size=int(n), gamma=fraction, delta=0.0)
        assert (graph.num_colluders, graph.threshold) == (int(c), int(t))
        assert graph.max_dropouts == int(spare)


@pytest.mark.parametrize(
    ("n", "column"),
    [(5, 1), (16, 2), *(pytest.param(64 * i, 2 + i, marks=pytest.mark.slow) for i in (1, 2))],
)
def test_the_message_sizes_are_measured(federation, simulation, n, column):
    members = federation(n, collusion=0.1)
    attempt = simulation.Round(members)
    attempt.run()
    sizes = {}
    for *_, received, sent in attempt.log:
        for data in filter(None, (received, sent)):
            label = Envelope.parse(data, peer="x", max_size=len(data)).label.decode()
            name = re.sub(r"^.*/r\d-", "", label).replace("-", "")
            sizes[name] = len(data)
    sizes["maskedinput"] -= members.spec.masked_size
    sizes["roundannouncement"] = sizes.pop("announcement")
    sizes["consistencycheck"] = sizes.pop("consistency")
    sizes["roundresult"] = sizes.pop("result")
    table = [row for row in rows("## 8. Message sizes") if row[1].isdigit()]
    written = {row[0].split(",")[0].lower(): int(row[column]) for row in table}
    assert written == sizes


def test_every_label_prefix_and_the_suite_are_on_the_page():
    from protocol import labels

    assert labels.SUITE.decode() in PAGE
    assert labels.HYBRID_SUITE.decode() in PAGE


def test_the_hybrid_message_sizes_are_measured(federation, simulation):
    members = federation(5, collusion=0.1, suite=Suite.HYBRID_PQ)
    attempt = simulation.Round(members)
    attempt.run()
    sizes = {}
    for *_, received, sent in attempt.log:
        for data in filter(None, (received, sent)):
            label = Envelope.parse(data, peer="x", max_size=len(data)).label.decode()
            name = re.sub(r"^.*/r\d-", "", label).replace("-", "")
            sizes[name] = max(sizes.get(name, 0), len(data))
    sizes["maskedinput"] -= members.spec.masked_size
    table = [row for row in rows("## 10. The hybrid suite") if row[1].isdigit()]
    assert {row[0].split(",")[0].lower(): int(row[1]) for row in table}.items() <= sizes.items()
