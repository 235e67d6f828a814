"""What tables and pictures call metrics and variants."""

from benchmarks.evaluation.metrics import MAIN_METRIC

TITLES = {
    "precision_at_1": "P@1",
    "r_precision": "R-precision",
    MAIN_METRIC: "MAP@R",
}


def title(metric: str) -> str:
    """Return what papers call a metric."""
    return TITLES.get(metric, metric.replace("recall_at_", "Recall@"))


def in_words(variant: str) -> str:
    """Return the name of a variant as text.

    Example:
        >>> in_words("norm_softmax+ps")
        'norm softmax + ps'
    """
    return " ".join(variant.replace("_", " ").replace("+", " + ").split())
