"""The engine: a process of its own that has the networks and a device. The gateway talks to it over one connection."""
