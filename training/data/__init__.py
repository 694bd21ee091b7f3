"""Cases, patches and batches that a run trains on."""
