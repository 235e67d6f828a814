"""The best settings of each variant, searched on validation classes with Optuna."""
