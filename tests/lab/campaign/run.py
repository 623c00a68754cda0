"""Runs cases, each in a directory of its own that is gone afterwards."""

from __future__ import annotations

import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.lab.campaign.applications import Templates, application
from tests.lab.campaign.case import Case
from tests.lab.campaign.course import course


@dataclass(frozen=True)
class Result:
    """What a case came to; ``failure`` is empty when everything held."""

    case: Case
    cuts: int
    acknowledged: int
    seconds: float
    failure: str
    #: What happened, one line each.
    story: tuple[str, ...]


def run_case(case: Case, templates: Path) -> Result:
    """Run it; never raises for what the case is to show."""
    begun = time.monotonic()
    story: list[str] = []

    def say(line: str) -> None:
        story.append(f"{time.monotonic() - begun:6.2f} s  {line}")

    with tempfile.TemporaryDirectory(prefix="twinhull-campaign-") as name:
        directory = Path(name)
        # PostgreSQL's user has to get through.
        directory.chmod(0o711)
        scratch = directory / "scratch"
        scratch.mkdir(mode=0o711)
        failure, outcome = "", None
        try:
            with course(case, directory, application(case, Templates(templates), scratch), say) as running:
                outcome = running.outcome
                running.run()
        except Exception as error:
            where = traceback.format_exc(limit=-4)
            failure = f"{type(error).__name__}: {error}\n{where}"
        logs = [log.read_text(errors="replace")[-3000:] for log in scratch.glob("*.log")]
    if failure:
        failure = "\n".join([failure, *logs])
    seconds = time.monotonic() - begun
    return Result(
        case=case,
        cuts=outcome.cuts if outcome else 0,
        acknowledged=outcome.acknowledged if outcome else 0,
        seconds=seconds,
        failure=failure,
        story=tuple(story),
    )
