"""Lines between sidecar and gate."""

from __future__ import annotations

import json
import signal

import pytest

from twinhull_sidecar.workload.adapter import WorkloadError
from twinhull_sidecar.workload.cri import ImageConfig, merge_command
from twinhull_sidecar.workload.cri.image_config import parse_info
from twinhull_sidecar.workload.lease_protocol import (
    Hello,
    ProtocolError,
    Report,
    encode_run,
    encode_stop,
    parse,
)
from twinhull_sidecar.workload.signals import parse_signal, signal_name


def test_a_hello_and_a_state_are_read() -> None:
    hello = b'{"v":1,"hello":{"container":"db","pid":1,"original":null,"args":["a"],"new":1}}'
    assert parse(hello) == Hello("db", 1, None, ("a",))
    state = b'{"state":"exited","pid":null,"code":null,"signal":9,"epoch":4,"reason":"killed"}'
    assert parse(state) == Report("exited", 4, None, None, 9, "killed")
    assert parse(b'{"later":1}') is None


@pytest.mark.parametrize(
    "line",
    [
        b"held",
        b"[]",
        b'{"hello":{}}',
        b'{"hello":{"container":"db","original":[1]}}',
        b'{"state":"asleep"}',
        b'{"state":"held","epoch":"1"}',
    ],
)
def test_a_bad_line_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(line)


def test_a_grant_says_who_restarts_and_when_it_ends() -> None:
    line = encode_run(7, ttl=1.5, until=100.25, argv=("a",), stop_signal=2)
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "run": {
            "epoch": 7,
            "ttl_ms": 1500,
            "until_ms": 100250,
            "restart": "gate",
            "argv": ["a"],
            "stop_signal": 2,
        }
    }
    assert json.loads(encode_stop(7, 2.5)) == {"stop": {"epoch": 7, "grace_ms": 2500}}


def test_a_line_that_no_gate_would_take_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="shorten the command"):
        encode_run(1, ttl=1, until=1, argv=["x" * 70_000])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGINT", 2),
        ("int", 2),
        ("15", 15),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
    ],
)
def test_signals_have_the_names_of_a_dockerfile(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "SIGNOTHING", "0", "65", "-1", "SIG_IGN", "SIGRTMIN+99"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no signal"):
        parse_signal(text)


def test_a_signal_is_named_for_people() -> None:
    assert signal_name(11) == "SIGSEGV"
    assert signal_name(60) == "signal 60"


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        (None, None, "e1 e2 c1"),
        (None, ["a"], "e1 e2 a"),
        (["x"], None, "x"),
        (["x"], ["a"], "x a"),
        ([], [], "e1 e2 c1"),
    ],
)
def test_command_and_arguments_replace_the_images_as_the_runtime_does(
    command: list[str] | None, args: list[str] | None, expected: str
) -> None:
    image = ImageConfig(("e1", "e2"), ("c1",))
    assert " ".join(merge_command(image, command, args)) == expected


def test_nothing_to_run_is_an_error() -> None:
    with pytest.raises(WorkloadError, match="set the container's command"):
        merge_command(ImageConfig(), None, None)


@pytest.mark.parametrize("info", ["", "[]", "{}", '{"imageSpec":{"config":3}}'])
def test_an_answer_without_configuration_is_an_error(info: str) -> None:
    with pytest.raises(WorkloadError, match="no image configuration"):
        parse_info(info)


def test_an_image_may_leave_everything_out() -> None:
    assert parse_info('{"imageSpec":{"config":{"Entrypoint":null}}}') == ImageConfig()
