"""How far a file is trusted: what a reader may spend on it, and whether a process of its own opens it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guards:
    """What opening a file may cost; the same code runs for all of them.

    Args:
        isolated: a process of its own, with limits on memory and time, opens and reads the file.
        max_pixels: most pixels or voxels to take; None means each reader's own limit.
    """

    isolated: bool
    max_pixels: int | None = None


LOCAL = Guards(isolated=False)  # the user's own files, on the user's own machine
UPLOAD = Guards(isolated=True)  # files that came over the network
