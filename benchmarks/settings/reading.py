"""From a settings file to the runs that it describes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf

from benchmarks.errors import SettingsError, nearest
from benchmarks.processes import cores
from benchmarks.settings.checking import (
    check_comparison,
    check_objects,
    check_run,
    check_values,
    missing,
    told,
    without_baseline,
)
from benchmarks.settings.files import COMMAND_LINE, changed, parse, read
from benchmarks.settings.merging import Tree, merge
from benchmarks.settings.schema import File, Run, Tune, structured


@dataclass(frozen=True)
class Comparison:
    """What a settings file describes.

    Arguments:
        source: the file.
        folder: where the results go.
        parallel_runs: the number of processes.
        variants: a run of each variant, whatever its seed.
        baselines: what each variant is compared with, if with anything.
        runs: those that are wanted.
        tune: how the variants are tuned, if the file says it.
    """

    source: str
    folder: Path
    parallel_runs: int
    variants: tuple[Run, ...]
    baselines: dict[str, str | None]
    runs: tuple[Run, ...]
    tune: Tune | None


def load(
    path: str | Path,
    overrides: Sequence[str] = (),
    variants: Collection[str] = (),
    imports: Collection[str] = (),
    root: str | None = None,
) -> Comparison:
    """Read and check a settings file.

    Arguments:
        path: of a YAML file.
        overrides: `a.b=c`, each of which sets what `a: {b: c}` in the file would.
        variants: those that are wanted; default all of them.
        imports: packages whose classes and functions the file may name, beside the libraries'.
        root: stands for `data.root` where that is not given, so that settings can be shown.

    Raises:
        SettingsError: if the file cannot be read, or a key, a class, a keyword or a value is
            wrong, missing or not permitted. The message names the file, and the nearest names
            that are right.
    """
    tree = changed(read(Path(path), imports), parse(overrides, imports), COMMAND_LINE)
    if root is not None and tree.get("data", {}).get("root") == MISSING:
        tree = merge(tree, {"data": {"root": root}})
    with told(f"{path}: "):
        return _comparison(tree, Path(path), variants, imports)


def _comparison(
    tree: Tree, path: Path, names: Collection[str], imports: Collection[str]
) -> Comparison:
    file = OmegaConf.merge(structured(File), {"name": path.stem}, tree)
    check_comparison(file, str(path))
    for name in names:
        if name not in file.variants:
            known = nearest(name, file.variants)
            raise SettingsError(f"{path}: unknown variant {name!r}: {known}")
    variants = tuple(_run(tree, name, str(path), imports) for name in file.variants)
    wanted = [run for run in variants if not names or run.variant in names]
    return Comparison(
        source=str(path),
        folder=Path(file.results, file.name),
        parallel_runs=file.parallel_runs or (cores() if file.device == "cpu" else 1),
        variants=variants,
        baselines={name: _baseline(name, file.variants, str(path)) for name in file.variants},
        runs=tuple(replace(run, seed=seed) for seed in file.seeds for run in wanted),
        tune=None if file.tune is None else OmegaConf.to_object(file.tune),
    )


def describe(comparison: Comparison) -> str:
    """Write all that a settings file resolves to, as YAML."""
    variants = {
        run.variant: OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)
        for run in comparison.variants
    }
    for tree in variants.values():
        del tree["variant"], tree["seed"]
    tree = {
        "results": str(comparison.folder),
        "parallel_runs": comparison.parallel_runs,
        "seeds": list(dict.fromkeys(run.seed for run in comparison.runs)),
        "variants": {
            run.variant: {"baseline": comparison.baselines[run.variant]} | variants[run.variant]
            for run in comparison.runs
        },
    }
    return OmegaConf.to_yaml(OmegaConf.create(tree))


def _run(tree: Tree, variant: str, source: str, imports: Collection[str]) -> Run:
    run_keys = [setting.name for setting in fields(Run)]
    shared = {key: value for key, value in tree.items() if key in run_keys}
    changes = without_baseline(tree["variants"][variant])
    tree = merge(shared, changes | {"variant": variant})
    for key in missing(tree):
        raise SettingsError(
            f"{source}: {key} is not given: set it in the file, or add {key}=VALUE to the command."
        )
    with told(f"{source}: "):
        settings = OmegaConf.merge(structured(Run), tree)
        # Settings are resolved once for all seeds.
        settings.seed = MISSING
        # Again: an object may be hidden in an interpolation, which is resolved from here on.
        resolved = OmegaConf.to_container(settings, resolve=True)
        check_values(resolved, f"{source}: variants.{variant}")
        check_objects(resolved, f"{source}: variants.{variant}.", imports)
        settings.seed = 0
        run: Any = OmegaConf.to_object(settings)
    check_run(run, source)
    return run


def _baseline(variant: str, variants: Mapping[str, Tree], source: str) -> str | None:
    plain = variant.split("+")[0]
    default = plain if plain != variant and plain in variants else None
    baseline = variants[variant].get("baseline", default)
    if baseline is not None and (baseline not in variants or baseline == variant):
        others = nearest(str(baseline), variants.keys() - {variant})
        raise SettingsError(
            f"{source}: variants.{variant}.baseline: no other variant {baseline!r}: {others}"
        )
    return baseline
