"""Starting (R2): with the peer heard, and without."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.role.scene import RECORD, START, Scene, heard, says
from twinhull_sidecar.role.model import (
    EngineView,
    HoldVip,
    Initialise,
    ProbeView,
    ProbeVip,
    Record,
    Role,
    StartApplication,
    StartPrimary,
)

NEW = Record()
NOW = START + 1.0


def test_listens_first() -> None:
    seen = Scene().see(NOW)
    assert (seen.role, seen.reason, seen.effects) == (Role.WAITING, "Starting: listening for b", ())


def test_unheard_it_waits_and_offers_force_primary() -> None:
    seen = Scene().see(START + 3.0)
    assert (seen.role, seen.code, seen.effects) == (Role.WAITING, "PeerUnknown", ())
    assert seen.reason == (
        "Waiting: b has not been heard for 3.0 s, so it may hold newer data or be serving. "
        "When b is surely down and this data is the one to keep, order force-primary"
    )


def test_unheard_it_starts_alone_only_if_its_record_says_so_and_the_address_is_free() -> None:
    scene, record = Scene(), replace(RECORD, alone=True)
    assert scene.see(START + 3.0, record=record).effects == (ProbeVip(),)
    seen = scene.see(START + 4.0, record=record, probe=ProbeView(START + 3.0, START + 3.9))
    assert seen.effects == (StartPrimary(alone=True),)
    assert seen.reason == "b is not heard, and this node's record says that it ran alone last: starting alone"


def test_unheard_and_the_address_taken_it_waits() -> None:
    scene, record = Scene(), replace(RECORD, alone=True)
    scene.see(START + 3.0, record=record)
    seen = scene.see(
        START + 4.0, record=record, probe=ProbeView(START + 3.0, START + 3.9, taken=("192.0.2.1",))
    )
    assert (seen.role, seen.code) == (Role.WAITING, "VipTaken")


def test_a_new_module_is_initialised_with_the_peers_consent() -> None:
    scene = Scene()
    asks = scene.see(NOW, record=NEW, **heard(NOW, says(fresh=True, serving=False)))
    assert asks.reason == "The module is new and holds no files: asking b to stay aside"
    assert (asks.message.claiming, asks.effects) == (True, ())
    consent = says(fresh=True, serving=False, heard_ask=asks.message.ask)
    assert scene.see(NOW + 0.1, record=NEW, **heard(NOW + 0.1, consent)).effects == (Initialise(),)
    made = scene.see(NOW + 0.2, record=Record(fresh=False, generation="g1"), **heard(NOW + 0.1, consent))
    assert made.effects == (StartPrimary(alone=True),)


def test_a_peer_that_claims_too_gives_no_consent() -> None:
    scene = Scene()
    asks = scene.see(NOW, record=NEW, **heard(NOW, says(fresh=True, serving=False)))
    both = says(fresh=True, serving=False, claiming=True, ask="claim-b", heard_ask=asks.message.ask)
    assert scene.see(NOW + 0.1, record=NEW, **heard(NOW + 0.1, both)).effects == ()


def test_the_other_node_waits_for_the_one_that_starts() -> None:
    scene = Scene(preferred_node="b")
    seen = scene.see(NOW, record=NEW, **heard(NOW, says(fresh=True, serving=False)))
    assert seen.reason == "Waiting for b to start: the module is new and holds no files"


def test_existing_data_is_never_guessed() -> None:
    seen = Scene().see(NOW, record=replace(NEW, has_data=True), **heard(NOW, says(fresh=True, serving=False)))
    assert seen.code == "AdoptFromMissing"
    assert seen.reason == (
        "Waiting: the volumes of a new module already hold files on a; name the node to keep in spec.adoptFrom"
    )


def test_files_without_a_record_are_not_overwritten() -> None:
    seen = Scene().see(NOW, record=replace(NEW, has_data=True), **heard(NOW))
    assert (seen.role, seen.code, seen.effects) == (Role.WAITING, "FilesWithoutRecord", ())
    assert "set spec.adoptFrom to b" in seen.reason


def test_newer_data_wins() -> None:
    record = replace(RECORD, generation="g2", history=("g1",))
    seen = Scene(preferred_node="b").see(NOW, record=record, **heard(NOW, says(serving=False)))
    assert seen.reason == "A holds newer data than b: asking b to stay aside"


def test_a_claim_is_a_promise_for_the_one_that_hears_it() -> None:
    scene = Scene()
    engine = EngineView(mode="secondary", in_sync=True, stream="s1")
    claim = says(serving=False, claiming=True, ask="claim-1", stream=None)
    seen = scene.see(NOW, engine=engine, **heard(NOW, claim))
    assert (seen.message.heard_ask, seen.message.in_sync) == ("claim-1", False)
    assert seen.reason == "b is about to serve: staying aside"


def test_storage_then_address_then_application() -> None:
    scene = Scene()
    asks = scene.see(NOW, **heard(NOW, says(serving=False)))
    consent = says(serving=False, heard_ask=asks.message.ask)
    scene.see(NOW + 0.1, **heard(NOW + 0.1, consent))
    mounted = EngineView(mode="primary", alone=True)
    alone = replace(RECORD, alone=True)
    first = scene.see(NOW + 0.2, engine=mounted, record=alone, **heard(NOW + 0.1, consent))
    assert first.effects[-1] == HoldVip()
    then = scene.see(NOW + 0.3, engine=mounted, record=alone, vip_held=True, **heard(NOW + 0.1, consent))
    assert then.effects[-1] == StartApplication(epoch=1)
    assert then.role is Role.ALONE
