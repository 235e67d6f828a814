"""A trained network and its preprocessing in one file, for programs without this project."""

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.errors import SettingsError
from benchmarks.files import atomic_write
from benchmarks.results.writing import writable
from benchmarks.trained.network import TrainedModel

SUFFIXES = (".pt2", ".onnx")
LARGEST_DIFFERENCE = 1e-4  # of a component of an embedding of length 1
INPUT, OUTPUT = "images", "embeddings"


def export(model: TrainedModel, path: Path) -> float:
    """Write a file that takes images, uint8 [B, *model.shape] for any B, to embeddings [B, D].

    Scaling, the transforms, the network and the normalisation of the embeddings are in it; how
    pictures are read and resized is not.

    Arguments:
        model: a trained network, on the CPU.
        path: of the file: `.pt2` is one of torch.export, which torch alone loads; `.onnx` needs
            the packages onnx, onnxscript and onnxruntime.

    Returns:
        The largest difference between a component of the embeddings that the file gives for random
        images, once it is loaded, and that of the network.

    Raises:
        SettingsError: if the suffix is another one, packages are missing, the shape of the images
            is not known, the network cannot be exported, or the file gives other embeddings.
    """
    if path.suffix not in SUFFIXES:
        raise SettingsError(
            f"{path}: expected a file that ends with one of {', '.join(SUFFIXES)}: torch alone "
            "loads the first, ONNX Runtime the second."
        )
    if model.shape is None:
        raise SettingsError(
            "The dataset of this run does not say how it reads pictures, so the shape of the "
            "images is not known. Give it a static method `preparation`."
        )
    images = _random_images(4, model.shape)
    try:
        content = (_torch_file if path.suffix == ".pt2" else _onnx_file)(model.embedder, images)
    except ImportError as error:
        raise SettingsError(
            f"{path}: {error}. To export ONNX, install onnx, onnxscript and onnxruntime, or give "
            "a file that ends with .pt2."
        ) from error
    except Exception as error:  # of whatever kind the exporters of torch raise
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(
            f"{path}: the network or its transforms cannot be exported: {reason}"
        ) from error
    # As many images as the exporter never saw.
    images = _random_images(3, model.shape)
    found = (_run_torch if path.suffix == ".pt2" else _run_onnx)(content, images)
    difference = (found - model(images)).abs().max().item()
    if not difference <= LARGEST_DIFFERENCE:
        raise SettingsError(
            f"{path}: was not written, since its embeddings would differ from those of the network "
            f"by up to {difference:.2g}."
        )
    with writable(path.parent), atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
    return difference


def _random_images(count: int, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def _torch_file(network: nn.Module, images: Tensor) -> bytes:
    sizes = {INPUT: {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(network, (images,), dynamic_shapes=sizes)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # torch says it of weights in channels_last, where it concerns other devices than the CPU.
        warnings.filterwarnings("ignore", "No complete tensor found")
        torch.export.save(program, file)
    return file.getvalue()


def _run_torch(content: bytes, images: Tensor) -> Tensor:
    with torch.no_grad():
        embeddings: Tensor = torch.export.load(io.BytesIO(content)).module()(images)
    return embeddings


def _onnx_file(network: nn.Module, images: Tensor) -> bytes:
    import onnxruntime  # noqa: F401 - said before the network is exported in vain
    import onnxscript  # noqa: F401

    sizes = {INPUT: {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=sizes,
            verbose=False,
        )
    content: bytes = program.model_proto.SerializeToString()
    return content


def _run_onnx(content: bytes, images: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (embeddings,) = session.run([OUTPUT], {INPUT: images.numpy()})
    return torch.from_numpy(embeddings)
