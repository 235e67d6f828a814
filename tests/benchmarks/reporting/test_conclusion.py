"""The last words of a comparison."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.reporting.conclusion import conclusion

BASELINES = {"pixels": None, "plain": None, "good": "plain", "bad": "plain", "same": "plain"}
FIGURES = {
    "plain": [0.40, 0.42, 0.41, 0.40, 0.42],
    "good": [0.50, 0.52, 0.51, 0.505, 0.52],
    "bad": [0.30, 0.32, 0.31, 0.30, 0.325],
    "same": [0.40, 0.43, 0.40, 0.41, 0.41],
}


def write(folder: Path, figures: dict[str, list[float]], epoch: int = 7) -> Path:
    baselines = {name: BASELINES[name] for name in figures}
    (folder / "comparison.yaml").write_text(
        yaml.safe_dump({"baselines": baselines}, sort_keys=False)
    )
    for variant, values in figures.items():
        for seed, value in enumerate(values):
            row = {"variant": variant, "seed": seed, "split": "test", "epoch": epoch + seed}
            run = folder / variant / f"seed_{seed}"
            run.mkdir(parents=True)
            pd.DataFrame([row | {MAIN_METRIC: value, "seconds": 1.0}]).to_csv(run / "metrics.csv")
    return folder


def test_it_says_what_was_found_what_to_do_and_where_the_weights_are(tmp_path):
    text = conclusion(write(tmp_path, FIGURES), "my.yaml")
    assert "\n" not in text
    assert text.startswith("good is better than plain by 10.1 ± 0.3 points. bad is worse than ")
    assert "No difference from the baseline was seen for same." in text
    assert "The highest mean MAP@R is that of good, 51.1%." in text
    assert f"Its weights are in {tmp_path}/good/seed_0/best.pt (load_model(" in text
    assert "retrieval_good.png" not in text
    (tmp_path / "good" / "examples.pt").touch()
    assert "What it retrieves is in retrieval_good.png." in conclusion(tmp_path, "my.yaml")
    assert text.endswith("python -m benchmarks train my.yaml --variant good --epochs 9")
    assert "more seeds" not in text


def test_the_proposed_command_repeats_what_was_given(tmp_path):
    given = ["--import", "shoes", "seeds=[0, 1]", "epochs=3", "variants.good.epochs=4", "name=tiny"]
    text = conclusion(write(tmp_path, FIGURES), "my photos.yaml", given)
    command = text[text.index("python -m benchmarks") :]
    assert command == (
        "python -m benchmarks train 'my photos.yaml' --variant good --epochs 9 --import shoes "
        "'seeds=[0, 1]' name=tiny"
    )


def test_few_seeds_are_told(tmp_path):
    text = conclusion(write(tmp_path, {k: v[:1] for k, v in FIGURES.items()}), "my.yaml")
    assert text.startswith("Nothing can be told apart yet: that takes two seeds")
    assert "Next: more seeds, before you believe" in text


@pytest.mark.parametrize(
    ("figures", "epoch", "message"),
    [
        ({"plain": [0.4], "pixels": [0.5]}, 0, "without training: train longer"),
        ({"plain": [float("nan")]}, 3, "No run has figures"),
        ({"plain": [0.4, 0.5]}, 3, "No variant has a baseline to be compared with."),
    ],
)
def test_what_went_wrong_is_told(figures, epoch, message, tmp_path):
    assert message in conclusion(write(tmp_path, figures, epoch), "my.yaml")
