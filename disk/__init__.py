"""Files on disk: atomic publishing, locks between processes, and digests."""
