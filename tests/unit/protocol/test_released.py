"""What launchers of released versions say is still understood: a crew trains on through an upgrade of its operator.

The files in `released/` were recorded from their release and are never changed. They go when
`OLDEST_PROTOCOL_VERSION` is raised past them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rowlock.protocol import (
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    CheckpointNote,
    Hello,
    Notice,
    Progress,
    RankExit,
    Report,
    decode,
)

RELEASED = Path(__file__).parent / "released"
VERSIONS = range(OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION + 1)
WHOLE = Report(
    generation=2,
    phase="running",
    store="host:1",
    exits=(RankExit(0, 1, 3, "ended with exit code 1", 1e9),),
    progress=Progress(7, 10, 0.5, 0.25, 100.0, 3.0, 1e9, {"accuracy": 0.9}),
    checkpoint=CheckpointNote(5, 1, 10, 1e9, "step-00000005-gen-0001"),
    resumed_from=5,
    notices=(Notice("1", "Resumed", "x"),),
    leaving=True,
)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_launcher_of_a_release_that_is_still_spoken_is_understood(version: int) -> None:
    hello = decode((RELEASED / f"v{version}-hello.json").read_text(), Hello)
    assert hello == Hello(version, 2, "uid", "10.0.0.2")
    assert decode((RELEASED / f"v{version}-report.json").read_text(), Report) == WHOLE


def test_the_release_before_is_spoken() -> None:
    assert max(1, PROTOCOL_VERSION - 1) >= OLDEST_PROTOCOL_VERSION
