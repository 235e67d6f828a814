"""The speed benchmark: ratios of medians, measured side by side in one run."""
