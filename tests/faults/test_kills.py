"""Twenty kills (SIGKILL) under load: nothing is lost, corrupted, done twice, or left running."""

from pathlib import Path

import pytest
from kill_cycles import cycle_on


@pytest.mark.timeout(900)
def test_p01_p02_twenty_kills(tmp_path: Path) -> None:
    counts = cycle_on(tmp_path, cycles=20, seed=1)
    assert counts.is_sound, counts
    assert counts.accepted >= 10
    assert counts.interrupted >= 5
