"""Engine: a separate process with the networks and a device; the gateway sends it requests over one connection."""
