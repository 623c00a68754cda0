"""``twinhull-operator``: the command line, and which handler answers what."""

# kopf's decorators keep a handler as it is; their stubs are not read.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import Any, cast

import kopf

from twinhull_operator import (
    handle_cleanup_operator,
    handle_event_module,
    handle_login_operator,
    handle_startup_operator,
)
from twinhull_operator.constants import FARM, GROUP, MIRROR, PLURALS, VERSION


@kopf.on.login()
def login(**kwargs: Any) -> kopf.ConnectionInfo:
    """See handle_login_operator."""
    return handle_login_operator.login(**kwargs)


@kopf.on.startup()
async def startup(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """See handle_startup_operator."""
    await handle_startup_operator.start(settings, memo)


@kopf.on.cleanup()
async def cleanup(memo: kopf.Memo, **_: Any) -> None:
    """See handle_cleanup_operator."""
    await handle_cleanup_operator.stop(memo)


@kopf.on.event(GROUP, VERSION, PLURALS[MIRROR])
async def mirrormodule(event: Mapping[str, Any], memo: kopf.Memo, **_: Any) -> None:
    """See handle_event_module."""
    await handle_event_module.observe(MIRROR, event, memo)


@kopf.on.event(GROUP, VERSION, PLURALS[FARM])
async def farmmodule(event: Mapping[str, Any], memo: kopf.Memo, **_: Any) -> None:
    """See handle_event_module."""
    await handle_event_module.observe(FARM, event, memo)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="twinhull-operator", description="Turns MirrorModules and FarmModules into pods."
    )
    result.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="NAME",
        help="watch this namespace only (may be given several times; default: all)",
    )
    result.add_argument(
        "--liveness", metavar="URL", help="answer there, for example http://0.0.0.0:8080/healthz"
    )
    result.add_argument("--verbose", action="store_true", help="log what is tried, too")
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the operator until SIGTERM."""
    arguments = parser().parse_args(argv)
    kopf.configure(verbose=arguments.verbose)
    logging.getLogger("twinhull_operator").setLevel(logging.DEBUG if arguments.verbose else logging.INFO)
    asyncio.run(
        kopf.operator(
            standalone=True,
            # By default kopf looks its user's name up, which a user id without an entry in passwd does not have.
            identity=cast("Any", socket.gethostname()),
            clusterwide=not arguments.namespace,
            namespaces=arguments.namespace,
            liveness_endpoint=arguments.liveness,
            memo=kopf.Memo(),
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
