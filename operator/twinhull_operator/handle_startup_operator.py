"""Prepares the operator before the first resource arrives."""

from __future__ import annotations

import os

import kopf

from twinhull_operator.console.server import Console
from twinhull_operator.console.settings import read_console_settings
from twinhull_operator.handle_login_operator import login
from twinhull_operator.kube import Kube
from twinhull_operator.leadership import Leadership
from twinhull_operator.metrics.own import LEADER
from twinhull_operator.metrics.server import MetricsServer
from twinhull_operator.modules import Modules
from twinhull_operator.settings import SettingsError, read_settings


async def start(settings: kopf.OperatorSettings, memo: kopf.Memo) -> None:
    """Configure kopf and begin to keep modules. Raises kopf.PermanentError, which ends the operator with its
    text.
    """
    # Events come from the sidecars and from what is found in specifications, not from each line of the log.
    settings.posting.enabled = False
    # The chart's tolerations move the operator within seconds; its connections must notice a dead API server
    # as fast.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 5
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    try:
        own = read_settings(os.environ)
        console = read_console_settings(os.environ)
    except SettingsError as error:
        raise kopf.PermanentError(str(error)) from error
    if own.election is None:
        memo.modules = Modules(Kube(login(settings=settings)), own)
    else:
        leadership = Leadership(Kube(login(settings=settings)), own.election)
        kube = Kube(login(settings=settings), leadership.holds)
        memo.modules = Modules(kube, own, leadership.term)
        memo.leadership = leadership
        LEADER.set_function(leadership.holds)
        leadership.start(memo.modules.wake)
    if own.metrics_port is not None:
        memo.metrics = MetricsServer(memo.modules.views_of_leader)
        await memo.metrics.start(own.metrics_port)
    if console is not None:
        memo.console = Console(memo.modules, Kube(login(settings=settings)), console)
        await memo.console.start()
