"""The rules by which a site is convicted, checked by Z3: no lies convict an honest one.

A site is convicted by a complaint (of its dealing, or of complaining falsely) or by a share that
it revealed. The server and all other sites may lie, and the server delivers what it likes.
Signatures and proofs of the channel's point are ideal: nobody else makes them.
"""

from __future__ import annotations

import pytest
import z3

# What an accuser, a dealer and the server can do in one dispute over one item.
dealer_is_honest, accuser_is_honest, holder_is_honest = z3.Bools("dealer accuser holder")
dealer_signed = z3.Bool("the item is under the dealer's signature")
accuser_signed = z3.Bool("the complaint is under the accuser's signature")
is_the_point = z3.Bool("the point shown is that of their channel")
item_fits = z3.Bool("opened with the true point, the item fits")
seems_to_fit = z3.Bool("opened with another point, the item fits")
holder_signed = z3.Bool("the revealed share is under its holder's signature")
share_fits = z3.Bool("the revealed share opens the item's commitment")

HONEST = z3.And(
    # Its items fit, for whoever opens them with the true point.
    z3.Implies(z3.And(dealer_is_honest, dealer_signed), item_fits),
    # It complains about nothing but what the dealer signed and what does not fit.
    z3.Implies(
        z3.And(accuser_is_honest, accuser_signed),
        z3.And(dealer_signed, is_the_point, z3.Not(item_fits)),
    ),
    # It masks nothing before every share fits, and reveals what it accepted.
    z3.Implies(z3.And(holder_is_honest, holder_signed, dealer_signed), share_fits),
)

ALL = (
    "a complaint counts under its author's signature",
    "an item counts under its dealer's signature",
    "the point is proven",
    "a revealed share counts under its holder's signature",
    "a revealed share is held against what the dealer signed",
)


def convictions(*broken: str):
    """Who is convicted, by the rules that are not ``broken``: dealer, accuser, holder."""
    by_author, by_dealer, by_point, by_holder, as_dealt = (
        z3.BoolVal(True) if name in broken else needed
        for name, needed in zip(
            ALL,
            (accuser_signed, dealer_signed, is_the_point, holder_signed, dealer_signed),
            strict=True,
        )
    )
    opened = z3.If(is_the_point, item_fits, seems_to_fit)
    is_justified = z3.And(by_dealer, by_point, z3.Not(opened))
    return {
        dealer_is_honest: z3.And(by_author, is_justified),
        accuser_is_honest: z3.And(by_author, z3.Not(is_justified)),
        holder_is_honest: z3.And(by_holder, as_dealt, z3.Not(share_fits)),
    }


def framed(*broken: str) -> set[str]:
    """The honest parties that some combination of lies convicts."""
    found = set()
    for is_honest, is_convicted in convictions(*broken).items():
        solver = z3.Solver()
        solver.add(HONEST, is_honest, is_convicted)
        if solver.check() == z3.sat:
            found.add(str(is_honest))
    return found


def test_no_honest_party_is_convicted() -> None:
    assert framed() == set()


def test_every_liar_in_a_dispute_is_convicted_by_it() -> None:
    """A complaint under a signature convicts one of the two, always."""
    dealer, accuser, _ = convictions().values()
    solver = z3.Solver()
    solver.add(accuser_signed, z3.Not(z3.Xor(dealer, accuser)))
    assert solver.check() == z3.unsat


@pytest.mark.parametrize(
    ("broken", "victims"),
    [
        ("a complaint counts under its author's signature", {"accuser"}),
        ("an item counts under its dealer's signature", {"dealer"}),
        ("the point is proven", {"dealer"}),
        ("a revealed share counts under its holder's signature", {"holder"}),
        ("a revealed share is held against what the dealer signed", {"holder"}),
    ],
)
def test_every_rule_is_needed(broken: str, victims: set[str]) -> None:
    assert framed(broken) == victims
