"""Services of the operating system: files that appear atomically, locks, digests, and facts of processes."""
