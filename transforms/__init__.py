"""Arrays -> arrays: normalisation, and the random transforms of training."""
