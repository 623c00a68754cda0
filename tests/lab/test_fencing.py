"""A lost primary is powered off through Redfish before its secondary takes over; if it cannot be, nobody goes on."""

from __future__ import annotations

import time
from pathlib import Path

from tests.lab.load import load
from tests.lab.netns import Lab
from tests.lab.pair import Pair
from tests.lab.redfish_emulator import Emulator
from tests.lab.report import figure
from tests.lab.trees import assert_trees_equal


def wait_reason(pair: Pair, name: str, words: str, timeout: float = 40) -> str:
    """Wait until the node's reason has these words."""

    def said() -> str | None:
        reason = pair[name].status().reason
        return reason if words in reason else None

    return pair.wait(f"{name} says {words!r}", said, timeout)


def test_the_lost_primary_is_powered_off_before_the_takeover(tmp_path: Path) -> None:
    with Lab() as lab:
        emulator = Emulator(lab, tmp_path)
        emulator.start()
        with Pair(lab, fencing=emulator.controllers()) as pair:
            pair.start()
            primary = pair.wait_redundant()
            secondary = pair.other(primary)
            with load(pair) as clients:
                clients.wait_for_more(20)
                # Wrong credentials: it does not go on, and says why.
                emulator.set_password(primary, "wrong")
                pair.power_cut(primary)
                reason = wait_reason(pair, secondary, "the controller refuses username and password (401)")
                figure(f"wrong password: {secondary} {pair[secondary].role()}: {reason}")
                assert "not taking over" in reason
                # Nobody answers: the same.
                emulator.stop()
                reason = wait_reason(pair, secondary, "the controller cannot be reached")
                figure(f"controller gone: {secondary} {pair[secondary].role()}: {reason}")
                pair.wait_role(secondary, "Waiting", 20)
                # It answers again and the password is right: powered off, and on it goes.
                emulator.set_password(primary, "correct horse")
                emulator.start()
                begun = time.monotonic()
                status = pair.wait_serving(secondary, 90)
                figure(f"fenced: {secondary} serves {time.monotonic() - begun:.1f} s after: {status.reason}")
                assert "POST /redfish/v1/Systems/" in emulator.log()
                clients.wait_for_more(20)
                clients.check()
                pair.boot(primary)
                pair.wait_redundant(60)
            assert_trees_equal(pair)
