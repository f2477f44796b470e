"""The first pages of a report, for who decides: what stands in its fields, in plain words.

Nothing here is a value of its own: every line follows from fields, which ``verify`` computes again.
"""

from phoenix_secure.compliance.overview.decisions import Decision, decisions, open_questions
from phoenix_secure.compliance.overview.figures import Figure, figures
from phoenix_secure.compliance.overview.risks import Measure, Risk, measures, risks
from phoenix_secure.compliance.overview.strip import Cell, label, sentences

__all__ = [
    "Cell",
    "Decision",
    "Figure",
    "Measure",
    "Risk",
    "decisions",
    "figures",
    "label",
    "measures",
    "open_questions",
    "risks",
    "sentences",
]
