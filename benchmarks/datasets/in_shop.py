"""In-Shop Clothes Retrieval, a part of DeepFashion."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from benchmarks.datasets.standard_set import Size, StandardSet
from pml_synthesis._checks import expect

LIST = "list_eval_partition.txt"


class InShop(StandardSet):
    """In-Shop Clothes (Liu et al., CVPR 2016): 3,997 garments train, queries search a gallery.

    The test images are two splits, "query" and "gallery", of the same 3,985 garments. `root`
    holds list_eval_partition.txt, or has it in Eval/, and the pictures in img/ or Img/img/, as
    the authors' archives are unpacked. Of a set that is not whole, garments that only one of
    query and gallery has are left out. It is given out on request, so download=True is refused.
    For the other arguments see StandardSet.

    Example:
        >>> InShop("data/inshop", "query").class_names[0]  # doctest: +SKIP
        'id_00000001'
    """

    sizes = {
        "train": Size(25882, 3997),
        "query": Size(14218, 3985),
        "gallery": Size(12612, 3985),
    }
    together = ("query", "gallery")
    source = "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html"

    @staticmethod
    def listed(root: Path, part: str, download: bool) -> Mapping[str, list[Path]]:
        """Return the files of each garment."""
        expect(not download, "download", "False", download)
        lists = [folder / LIST for folder in (root, root / "Eval") if (folder / LIST).exists()]
        if not lists:
            raise FileNotFoundError(f"{LIST} is missing.")
        pictures = root / "Img" if (root / "Img").is_dir() else root
        files: dict[str, list[Path]] = defaultdict(list)
        # The number of images and a head line come first.
        for line in lists[0].read_text().splitlines()[2:]:
            path, garment, status = line.split()
            if status == part:
                files[garment].append(pictures / path)
        return dict(sorted(files.items()))
