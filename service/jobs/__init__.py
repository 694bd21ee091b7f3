"""Jobs: created, queued, run by the engine, and deleted when they expire."""
