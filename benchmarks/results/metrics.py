"""The metrics of a run, as metrics.csv and checkpoints hold them."""

import pandas as pd

from benchmarks.evaluation.metrics import MAIN_METRIC

# Columns that hold texts, and those that no row lacks.
OF_TEXT = ("variant", "split")
OF_EACH_ROW = (*OF_TEXT, "seed", "epoch", "seconds")
SPLITS = ("val", "test")


def checked(table: pd.DataFrame, variant: str, seed: int) -> pd.DataFrame:
    """Return the metrics of a run, each column of its type.

    Arguments:
        table: a row for each look at the validation classes, and one for the test.
        variant: of the run.
        seed: of the run.

    Raises:
        ValueError: if columns are missing, values are of another type or out of range, or rows are
            those of another run.
    """
    if missing := [name for name in (*OF_EACH_ROW, MAIN_METRIC) if name not in table]:
        raise ValueError(f"there is no column {', '.join(missing)}")
    if table.empty or table[list(OF_EACH_ROW)].isna().any(axis=None):
        raise ValueError("lines are missing or cut off")
    table = table.astype(dict.fromkeys(table.columns.difference(OF_TEXT), float))
    for name, expected in {"variant": [variant], "seed": [seed], "split": SPLITS}.items():
        if len(others := table[name][~table[name].isin(expected)]):
            known = " or ".join(map(str, expected))
            raise ValueError(f"its {name} is expected to be {known} but is {others.iloc[0]}")
    if not (table["epoch"].ge(0) & table["epoch"].mod(1).eq(0)).all():
        raise ValueError("its epochs are no numbers of epochs")
    figures = table[table.columns.difference(OF_EACH_ROW)]
    # Sums of float32 may exceed 1 by their rounding.
    if not (figures.isna() | figures.ge(0) & figures.le(1.001)).all(axis=None):
        raise ValueError("its figures are expected in [0, 1]")
    return table.astype({"seed": int, "epoch": int})
