"""What figures are called."""

#: The metric that chooses the epoch, and that variants are compared by.
MAIN_METRIC = "mean_average_precision_at_r"
