"""Embeddings of folders and splits, in files; networks in one file."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.errors import SettingsError
from benchmarks.files import write_table
from benchmarks.settings.objects import build
from benchmarks.trained import TrainedModel, load_model
from benchmarks.trained.exporting import export
from benchmarks.trained.loading import read_run
from trained_run import finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return finished_run(tmp_path_factory.mktemp("embedding"))


def written(folder: Path) -> tuple[np.ndarray, pd.DataFrame]:
    return np.load(folder / "embeddings.npy"), pd.read_csv(folder / "embeddings.csv")


def test_a_folder_is_embedded_file_by_file_and_what_cannot_be_read_is_named(run, tmp_path, capsys):
    photos = shutil.copytree(run.parents[3] / "photos", tmp_path / "photos")
    shutil.copy(photos / "class 0" / "0.png", photos / "top.png")
    (photos / "class 1" / "0.png").write_bytes(b"")
    (photos / "class 2" / "phone.heic").write_bytes(b"no")
    (photos / "class 2" / ".hidden.png").write_bytes(b"no")
    (photos / "notes.txt").write_text("no picture, and not meant as one")
    left_out = r"2 files in .* left out.*1 \.heic, 1 \.txt\): class 2/phone.heic, notes.txt\."
    with pytest.warns(UserWarning, match=left_out):
        main(["embed", str(run), str(photos), "--to", str(tmp_path / "made")])
    embeddings, table = written(tmp_path / "made")
    assert embeddings.shape == (40, 5) and embeddings.dtype == np.float32
    assert table.columns.tolist() == ["file", "class"]
    assert table["class"].fillna("").tolist() == [
        f"class {name}" for name in range(10) for i in range(4) if (name, i) != (1, 0)
    ] + [""]
    files = [photos / name for name in table["file"]]
    np.testing.assert_allclose(embeddings, load_model(run)(files), atol=1e-6)
    output = capsys.readouterr()
    assert output.out == f"40 embeddings of size 5 in {tmp_path / 'made'}\n"
    assert "1 file could not be read:\n" in output.err
    assert "0.png cannot be read as an image: it is empty (0 bytes)" in output.err


def test_a_single_picture_is_embedded(run, tmp_path):
    picture = run.parents[3] / "photos" / "class 3" / "2.png"
    main(["embed", str(run), str(picture), "--to", str(tmp_path)])
    embeddings, table = written(tmp_path)
    assert table["file"].tolist() == ["2.png"] and table["class"].isna().all()
    np.testing.assert_allclose(embeddings, load_model(run)(picture), atol=1e-6)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_is_embedded_in_its_order(split, run, tmp_path):
    main(["embed", str(run), split, "--to", str(tmp_path)])
    embeddings, table = written(tmp_path)
    dataset = build(getattr(read_run(run).data, split))
    assert table["index"].tolist() == list(range(len(dataset)))
    assert table["label"].tolist() == dataset.labels.tolist()
    assert table["class"].tolist() == [dataset.class_names[i] for i in dataset.labels]
    np.testing.assert_allclose(embeddings, load_model(run)(dataset.images), atol=1e-6)
    np.testing.assert_allclose(embeddings, load_model(run)(table["file"].tolist()), atol=1e-6)


def test_names_of_files_that_are_no_text_are_spelled_out(tmp_path):
    write_table(pd.DataFrame({"file": ["caf\udce9.png"]}), tmp_path / "table.csv")
    assert pd.read_csv(tmp_path / "table.csv")["file"].tolist() == [r"caf\udce9.png"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere: there is no such folder or file. Give a folder of pictures"),
        ("gallery", "have no split 'gallery'"),
        ("empty/a.png", "a.png: expected pictures .*a.png cannot be read as an image"),
        ("empty", "expected pictures .*but 1 file could not be read"),
    ],
)
def test_what_is_nothing_to_embed_is_told(source, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit, match=f"(?s)error: .*{message}"):
        main(["embed", str(run), source, "--to", "made"])
    assert not (tmp_path / "made").exists()


def test_settings_are_not_expected(run, tmp_path):
    with pytest.raises(SystemExit, match="no settings are expected here, but got epochs=3"):
        main(["export", str(run), str(tmp_path / "model.pt2"), "epochs=3"])


# ---------------------------------------------------------------- export

SCRIPT = """
import sys, torch
network = torch.export.load(sys.argv[1]).module()
torch.save(network(torch.load(sys.argv[2])), sys.argv[2])
assert not [name for name in sys.modules if name.split(".")[0] in ("benchmarks", "pml_synthesis")]
"""


def test_torch_alone_loads_what_was_exported(run, tmp_path, capsys):
    path, images_path = tmp_path / "model.pt2", tmp_path / "images.pt"
    main(["export", str(run), str(path)])
    assert "uint8 [B, 3, 12, 12]" in capsys.readouterr().out
    images = torch.randint(0, 256, (5, 3, 12, 12), dtype=torch.uint8)
    torch.save(images, images_path)
    command = [sys.executable, "-I", "-c", SCRIPT, str(path), str(images_path)]
    subprocess.run(command, check=True, cwd=tmp_path)
    found = torch.load(images_path)
    torch.testing.assert_close(found, load_model(run)(images), atol=1e-5, rtol=0)


def test_onnx_gives_the_same_embeddings(run, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = load_model(run)
    assert export(model, tmp_path / "model.onnx") < 1e-5
    images = torch.randint(0, 256, (5, 3, 12, 12), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(images), atol=1e-5, rtol=0)


def test_without_its_packages_onnx_is_refused_with_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SettingsError, match="install onnx, onnxscript and onnxruntime, or give"):
        export(load_model(run), tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


def test_files_of_other_kinds_and_images_of_unknown_shape_are_refused(run, tmp_path):
    model = load_model(run)
    with pytest.raises(SettingsError, match="model.pth: expected a file that ends with one of"):
        export(model, tmp_path / "model.pth")
    with pytest.raises(SettingsError, match="shape of the images is not known"):
        export(TrainedModel(model.embedder, None), tmp_path / "model.pt2")


def test_a_file_with_other_embeddings_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.trained.exporting._run_torch", lambda *_: torch.zeros(3, 5))
    with pytest.raises(SettingsError, match="was not written, since its embeddings would differ"):
        export(load_model(run), tmp_path / "model.pt2")
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_exported_is_told(run, tmp_path):
    model = load_model(run)
    model.embedder.transforms = (lambda images: images if images.sum() > 0 else -images,)
    with pytest.raises(SettingsError, match="the network or its transforms cannot be exported"):
        export(model, tmp_path / "model.pt2")
