"""From settings to finished runs: parts, trainer, checkpoints, processes."""
