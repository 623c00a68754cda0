"""No moment of a first synchronisation looks like a split brain, however late the nodes hear of each other."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.unit.control.doubles import EngineDouble
from tests.unit.role.scene import IN_SYNC, SERVING, START, Scene, heard, says
from twinhull_sidecar.control.observe import NO_GENERATION, record_view
from twinhull_sidecar.role.model import EngineView, Record, Role

NOW = START + 10.0
FILES = {"fresh": False, "has_data": True}


def record(**values: Any) -> Record:
    """As the engine gives it."""
    return record_view(EngineDouble().facts | values)


#: What the primary's record says from its beginning on; the last one: it lost the secondary, and wrote.
SHARED = record(**FILES, generation="g1", last_role="primary")
BUMPED = record(**FILES, generation="g2", history=["g1"], alone=True, last_role="primary")
PRIMARYS = (record(**FILES, generation="g1", alone=True, last_role="primary"), SHARED, BUMPED)
#: The secondary's: nothing, begun, ended.
SECONDARYS = (
    record(),
    record(fresh=False, generation=NO_GENERATION, consistent=False, last_role="secondary"),
    record(**FILES, generation=NO_GENERATION, consistent=False, last_role="secondary"),
    record(**FILES, generation="g1", last_role="secondary"),
    record(**FILES, generation="g2", history=["g1"], last_role="secondary"),
)
ENGINES = (EngineView(), EngineView(mode="secondary", connected=True, syncing=True, stream="s1"), IN_SYNC)


def words(own: Record, **more: Any) -> dict[str, Any]:
    names = ("fresh", "has_data", "generation", "history", "alone", "consistent", "last_role")
    return {name: getattr(own, name) for name in names} | more


@pytest.mark.parametrize(("mine", "theirs"), [*itertools.product(SECONDARYS, PRIMARYS)])
def test_the_secondary_sees_no_split_brain(mine: Record, theirs: Record) -> None:
    for engine in ENGINES:
        seen = Scene().see(NOW, record=mine, engine=engine, **heard(NOW, says(**words(theirs))))
        assert seen.code in {"Connecting", "Resynchronising", "InSync", "Claiming"}, seen.reason
        assert (seen.code == "Claiming") == (
            mine.generation == "g2" != theirs.generation and engine.mode == "idle"
        )
        assert seen.state.to_persist is None


@pytest.mark.parametrize(("theirs", "mine"), [*itertools.product(SECONDARYS[:4], PRIMARYS)])
def test_the_primary_sees_none_either(theirs: Record, mine: Record) -> None:
    scene = Scene()
    scene.state = scene.state.having(serving=True, serving_since=NOW - 5.0, epoch=1)
    said = says(**words(theirs, serving=False, role="Syncing"))
    seen = scene.see(NOW, record=mine, engine=SERVING, **heard(NOW, said))
    assert seen.role in {Role.PRIMARY, Role.ALONE}
    assert seen.state.serving
