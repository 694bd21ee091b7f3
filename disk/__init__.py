"""What the operating system provides: files that appear atomically, locks, digests, and facts of processes."""
