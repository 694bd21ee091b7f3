"""Several runs of one config: cross-validation folds, and hyperparameter tuning."""
