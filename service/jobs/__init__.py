"""Jobs: accepted, queued, executed and kept until they expire."""
