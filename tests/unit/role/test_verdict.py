"""The start-up table: symmetric, and never without a reason."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.role.scene import settings
from twinhull_sidecar.role.lineage import Relation, compare
from twinhull_sidecar.role.verdict import Side, verdict

GENERATIONS = (("g1", ()), ("g2", ("g1",)), ("g3", ("g1",)), ("g4", ("g2", "g1")))


@st.composite
def sides(draw: st.DrawFn, node: str) -> Side:
    generation, history = draw(st.sampled_from(GENERATIONS))
    return Side(
        node=node,
        fresh=draw(st.booleans()),
        has_data=draw(st.booleans()),
        generation=generation,
        history=history,
        alone=draw(st.booleans()),
        consistent=draw(st.booleans()),
        last_role=draw(st.sampled_from(("primary", "secondary", "none"))),
        token=draw(st.sampled_from((None, "t1", "t2"))),
        promotable=draw(st.booleans()),
        app_failed=draw(st.booleans()),
        overrides=draw(st.sampled_from((None, "g2", "g3"))),
    )


@given(sides("a"), sides("b"), st.sampled_from((None, "a", "b")), st.sampled_from((None, "a", "b")))
def test_both_nodes_reach_the_same_verdict(
    a: Side, b: Side, preferred: str | None, adopt: str | None
) -> None:
    own = settings(preferred_node=preferred, adopt_from=adopt)
    theirs = settings(node="b", peer="a", preferred_node=preferred, adopt_from=adopt)
    here, there = verdict(own, a, b), verdict(theirs, b, a)
    assert here == there
    assert here.why
    assert here.code


@given(sides("a"), sides("b"))
def test_an_inconsistent_node_never_starts_by_itself(a: Side, b: Side) -> None:
    winner = verdict(settings(), a, b)
    if winner.code == "SplitBrainDecided":
        return  # by an administrator
    for side in (a, b):
        if side.node == winner.node and not side.fresh and not side.promotable:
            assert side.consistent or side.alone


@given(sides("a"), sides("b"))
def test_older_data_never_starts_while_newer_is_usable(a: Side, b: Side) -> None:
    if a.fresh or b.fresh or a.app_failed or b.app_failed:
        return
    if compare(a, b) is Relation.BEHIND and b.usable and not (a.token and a.token == b.token):
        assert verdict(settings(), a, b).node == "b"


def test_relations_are_antisymmetric() -> None:
    opposite = {Relation.AHEAD: Relation.BEHIND, Relation.BEHIND: Relation.AHEAD}
    made = [
        Side("a", False, False, g, h, False, True, "none", None, False, False, None) for g, h in GENERATIONS
    ]
    for one, two in itertools.product(made, made):
        relation = compare(one, two)
        assert compare(two, one) is opposite.get(relation, relation)
