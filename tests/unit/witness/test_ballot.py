"""A vote: taken and given back by compare-and-swap, whatever gets lost on the way."""

from __future__ import annotations

import pytest

from twinhull_sidecar.witness.ballot import ATTEMPTS, Ballot, Goal, Read, Register, Write


class Server:
    """The witness."""

    def __init__(self) -> None:
        self.register = Register()
        self.count = 0

    def write(self, write: Write) -> bool:
        if write.version != self.register.version:
            return False
        self.count += 1
        self.register = Register(str(self.count), write.holder, write.generation, "u")
        return True


def work(ballot: Ballot, server: Server) -> None:
    """Carry out every request at once."""
    while (request := ballot.next()) is not None:
        if isinstance(request, Read):
            ballot.read(server.register)
        else:
            ballot.written(server.write(request))


def test_one_takes_it_and_the_other_does_not() -> None:
    server, a, b = Server(), Ballot("a", "u"), Ballot("b", "u")
    for ballot in (a, b):
        ballot.want(Goal.TAKE, "g1")
        work(ballot, server)
    assert (a.mine, b.mine) == (True, False)
    assert (b.holder, b.generation, b.detail) == ("a", "g1", "a has it")
    a.want(Goal.GIVE_BACK, "g1")
    assert not a.mine
    work(a, server)
    b.want(Goal.TAKE, "g1")
    work(b, server)
    assert b.mine


def test_of_two_that_write_at_once_one_wins() -> None:
    server, a, b = Server(), Ballot("a", "u"), Ballot("b", "u")
    writes = []
    for ballot in (a, b):
        ballot.want(Goal.TAKE, "g1")
        assert ballot.next() == Read()
        ballot.read(server.register)
        writes.append(ballot.next())
    for ballot, write in ((b, writes[1]), (a, writes[0])):
        assert isinstance(write, Write)
        ballot.written(server.write(write))
        work(ballot, server)
    assert (a.mine, b.mine) == (False, True)


def test_a_lost_answer_is_asked_for_again() -> None:
    server, a = Server(), Ballot("a", "u")
    a.want(Goal.TAKE, "g1")
    a.next()
    a.read(server.register)
    write = a.next()
    assert isinstance(write, Write)
    server.write(write)
    a.failed("no answer")
    assert (a.mine, a.detail, a.next()) == (False, "no answer", None)
    a.want(Goal.TAKE, "g1")
    work(a, server)
    assert a.mine


def test_a_late_give_back_finds_another_version() -> None:
    server, a = Server(), Ballot("a", "u")
    a.want(Goal.TAKE, "g1")
    work(a, server)
    a.want(Goal.GIVE_BACK, "g1")
    a.next()
    a.read(server.register)
    late = a.next()
    assert isinstance(late, Write)
    a.failed("no answer")
    a.want(Goal.TAKE, "g1")
    work(a, server)
    assert not server.write(late)
    assert (a.mine, server.register.holder) == (True, "a")


def test_a_goal_that_changes_on_the_way_counts() -> None:
    server, a = Server(), Ballot("a", "u")
    a.want(Goal.TAKE, "g1")
    a.next()
    a.read(server.register)
    write = a.next()
    assert isinstance(write, Write)
    a.want(Goal.GIVE_BACK, "g1")
    a.written(server.write(write))
    assert not a.mine
    work(a, server)
    assert server.register.holder == ""


def test_a_new_generation_is_noted_and_the_vote_stays() -> None:
    server, a = Server(), Ballot("a", "u")
    for generation in ("g1", "g2"):
        a.want(Goal.TAKE, generation)
        work(a, server)
        assert a.mine
    assert server.register.generation == "g2"


def test_a_forced_one_takes_it_and_the_other_sees_that() -> None:
    server, a, b = Server(), Ballot("a", "u"), Ballot("b", "u")
    a.want(Goal.TAKE, "g1")
    work(a, server)
    b.want(Goal.SEIZE, "g1")
    work(b, server)
    a.want(Goal.LOOK)
    work(a, server)
    assert (a.mine, a.holder, b.mine) == (False, "b", True)


def test_another_modules_vote_is_refused() -> None:
    a = Ballot("a", "u")
    a.want(Goal.TAKE, "g1")
    a.next()
    a.read(Register("7", "", "", "other"))
    assert (a.mine, a.next()) == (False, None)
    assert "UID other" in a.detail


def test_it_does_not_try_for_ever() -> None:
    server, a = Server(), Ballot("a", "u")
    a.want(Goal.TAKE, "g1")
    for _ in range(ATTEMPTS):
        a.next()
        a.read(server.register)
        a.next()
        a.written(False)
    assert a.next() is None
    assert "again and again" in a.detail


@pytest.mark.parametrize("goal", [Goal.LOOK, Goal.GIVE_BACK])
def test_what_is_not_needed_is_not_written(goal: Goal) -> None:
    server, a = Server(), Ballot("a", "u")
    a.want(goal, "g1")
    work(a, server)
    assert server.count == 0
