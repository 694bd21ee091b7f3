"""Config -> bundle: data, patches, the Lightning module, the run."""
