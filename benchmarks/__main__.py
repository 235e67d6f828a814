"""The command line: `python -m benchmarks compare CONFIG`, `report FOLDER` and others."""

import os

# tqdm reads it when it is imported, here and in the processes of this one: PML's trainers and
# testers draw no bars, the one over all runs asks for itself.
os.environ.setdefault("TQDM_DISABLE", "1")

import argparse
import select
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks import distributed
from benchmarks.datasets.split_checks import overlaps
from benchmarks.datasets.splits import Splits
from benchmarks.errors import FailedRunsError, SettingsError
from benchmarks.reporting.conclusion import conclusion
from benchmarks.reporting.papers import against_paper
from benchmarks.reporting.report import report, report_folds
from benchmarks.results import writing
from benchmarks.results.paths import run_folder
from benchmarks.results.reading import read_counts
from benchmarks.settings.reading import Comparison, describe, load
from benchmarks.trained.embedding import embed
from benchmarks.trained.embedding import summary as summary_of_failures
from benchmarks.trained.exporting import export
from benchmarks.trained.loading import load_model
from benchmarks.training.compare import check, checked_splits, compare, read_data

CLOSED_PIPE = 141  # 128 + SIGPIPE, the exit status of programs that it ends
STANDARD_OUTPUTS = (1, 2)
NOT_GIVEN = "<not given>"  # the data.root that --dry-run shows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; wrong settings and failed runs end it with a message."""
    if sys.stderr is None:
        # A shell has closed it (2>&-): the bar would fail, and have nowhere to say so.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    parser = _parser()
    parsed, overrides = parser.parse_known_args(arguments)
    if flags := [argument for argument in overrides if argument.startswith("-")]:
        parser.error(f"unknown option {flags[0]}")
    try:
        with distributed.joined():
            parsed.command(parsed, overrides)
        print(end="", flush=True)  # At its end Python could only complain of a closed pipe.
    except (SettingsError, FailedRunsError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # A closed pipe may be that of another process, too.
        if isinstance(error, BrokenPipeError) and _silence_closed_pipes():
            sys.exit(CLOSED_PIPE)
        # Such as a full disk, or a folder that nobody may write to.
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on from here.")


def _silence_closed_pipes() -> bool:
    """Tell whether nobody reads the output any more, as after `| head`, and let it go nowhere."""
    watched = select.poll()
    for output in STANDARD_OUTPUTS:
        watched.register(output, 0)
    closed = [
        output for output, event in watched.poll(0) if event & (select.POLLERR | select.POLLHUP)
    ]
    for output in closed:
        # Python flushes what is left once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return bool(closed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    overriding = "Any setting of the file can be given as a.b=c, such as epochs=5."
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument("config", help="a settings file, such as benchmarks/configs/glyphs.yaml")
    config.add_argument(
        "--dry-run",
        action="store_true",
        help="run nothing: print the settings, how many classes and images there are, and what "
        "would be refused",
    )
    _add_imports(config)

    everything = commands.add_parser(
        "compare", parents=[config], help="run and compare all variants", epilog=overriding
    )
    everything.set_defaults(command=_run, variant=())

    some = commands.add_parser(
        "run", parents=[config], help="run one variant, or some of them", epilog=overriding
    )
    some.add_argument(
        "--variant",
        action="append",
        required=True,
        help="its name; --variant A --variant A+B compares the two",
    )
    some.set_defaults(command=_run)

    final = commands.add_parser(
        "train",
        parents=[config],
        help="train a variant on the classes of all splits, once it is chosen",
        epilog=overriding,
    )
    final.add_argument("--variant", required=True)
    final.add_argument(
        "--epochs", type=int, required=True, help="such as those that were best in the comparison"
    )
    final.set_defaults(command=_train)

    search = commands.add_parser(
        "tune",
        parents=[config],
        help="search the best settings of each variant on validation classes",
        epilog=overriding,
    )
    search.set_defaults(command=_tune)

    again = commands.add_parser("report", help="make tables and pictures again")
    again.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="folder",
        help="a folder of results, such as runs/glyphs; several are folds of one comparison",
    )
    again.add_argument(
        "--against-paper",
        metavar="NAME",
        help="put what was published beside it, for a file of configs/papers, such as ps_cars196",
    )
    again.set_defaults(command=_report)
    _add_commands_of_trained_networks(commands)
    return parser


def _add_imports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package whose classes and functions the settings may name, beside the libraries'; "
        "may be given several times",
    )


def _add_commands_of_trained_networks(commands: Any) -> None:
    run = argparse.ArgumentParser(add_help=False)
    run.add_argument("run", type=Path, help="the folder of a finished run, .../seed_<number>")
    _add_imports(run)

    embeds = commands.add_parser("embed", parents=[run], help="embed pictures with a trained run")
    embeds.add_argument(
        "source",
        help="a folder of pictures, a picture, or a split of the run: train, val, test or gallery",
    )
    embeds.add_argument(
        "--to", type=Path, required=True, help="the folder for embeddings.npy and embeddings.csv"
    )
    embeds.add_argument("--device", default="cpu", help="where the network computes")
    embeds.set_defaults(command=_embed)

    exports = commands.add_parser("export", parents=[run], help="write a trained run as one file")
    exports.add_argument("file", type=Path, help="ends with .pt2, for torch alone, or with .onnx")
    exports.set_defaults(command=_export)


def _embed(arguments: argparse.Namespace, overrides: list[str]) -> None:
    _expect_no_settings(overrides)
    made = embed(arguments.run, arguments.source, arguments.to, arguments.device, arguments.imports)
    if made.failures:
        print(summary_of_failures(made.failures), file=sys.stderr)
    count, size = made.embeddings.shape
    print(f"{count} embeddings of size {size} in {arguments.to}")


def _export(arguments: argparse.Namespace, overrides: list[str]) -> None:
    _expect_no_settings(overrides)
    model = load_model(arguments.run, imports=arguments.imports)
    difference = export(model, arguments.file)
    shape = ", ".join(map(str, model.shape or ()))
    print(
        f"{arguments.file} takes images, uint8 [B, {shape}], to embeddings. Loaded again, its "
        f"embeddings differ from those of the run by {difference:.1g} at most."
    )


def _expect_no_settings(overrides: list[str]) -> None:
    if overrides:
        raise SettingsError(f"command line: no settings are expected here, but got {overrides[0]}.")


def _run(arguments: argparse.Namespace, overrides: list[str]) -> None:
    given = (arguments.config, overrides, arguments.variant, arguments.imports)
    if arguments.dry_run:
        if distributed.rank() == 0:
            # The settings first: reading the data may take long, or fail.
            print(describe(load(*given, root=NOT_GIVEN)), end="", flush=True)
            _check(load(*given))
        return
    comparison = load(*given)
    imports = [word for package in arguments.imports for word in ("--import", package)]
    show = partial(_show, comparison.folder, arguments.config, [*imports, *overrides])
    try:
        compare(comparison)
    except FailedRunsError:
        show()
        raise
    show()


def _check(comparison: Comparison) -> None:
    """Say what there is, and what `compare` would refuse."""
    splits = read_data(comparison)
    _show_splits(splits)
    check(comparison, splits)


def _show_splits(splits: Splits) -> None:
    found = {"splits": splits.counts(), "overlaps": overlaps(splits)}
    print(yaml.safe_dump(found, sort_keys=False), end="", flush=True)


def _train(arguments: argparse.Namespace, overrides: list[str]) -> None:
    settings = [*overrides, f"epochs={arguments.epochs}", "data.all_classes=true"]
    given = load(arguments.config, settings, [arguments.variant], arguments.imports)
    folder = given.folder.with_name(f"{given.folder.name}_all_classes")
    # Also of a variant that the file gives a length of its own.
    as_long = partial(replace, epochs=arguments.epochs)
    variants = tuple(as_long(run) for run in given.variants)
    comparison = replace(given, folder=folder, variants=variants, runs=(as_long(given.runs[0]),))
    if arguments.dry_run:
        if distributed.rank() == 0:
            print(describe(comparison), end="", flush=True)
            _check(comparison)
        return
    compare(comparison)
    if distributed.rank() == 0:
        counts = read_counts(folder)["train"]
        run = run_folder(folder, comparison.runs[0])
        print(
            f"Trained on {counts['images']:,} images of {counts['classes']:,} classes; nothing was "
            f"tested. The weights are in {run}: load_model({str(run)!r})"
        )


def _tune(arguments: argparse.Namespace, overrides: list[str]) -> None:
    # Optuna takes a second to import, and no other command needs it.
    from benchmarks.tuning.report import report as report_search
    from benchmarks.tuning.tune import describe_search, plan, tune

    given = partial(load, arguments.config, overrides, imports=arguments.imports)
    if arguments.dry_run:
        print(describe_search(plan(given(root=NOT_GIVEN))), end="", flush=True)
        comparison = plan(given()).comparison
        _show_splits(checked_splits(comparison.variants, comparison))
        return
    search = plan(given())
    failure = None
    try:
        tune(search)
    except FailedRunsError as error:
        failure = error
    with writing.writable(search.folder):
        print(report_search(search, overrides, arguments.imports))
    print(f"Results in {search.folder}")
    if failure is not None:
        raise failure


def _report(arguments: argparse.Namespace, _: list[str]) -> None:
    if arguments.against_paper:
        print(against_paper(arguments.folders, arguments.against_paper))
    elif len(arguments.folders) > 1:
        print(report_folds(arguments.folders))
    else:
        _show(arguments.folders[0], "CONFIG")


def _show(folder: Path, config: str, given: Sequence[str] = ()) -> None:
    if distributed.rank() == 0:
        with writing.writable(folder):
            print(report(folder))
        print(f"Results in {folder}\n\n{conclusion(folder, config, given)}")


if __name__ == "__main__":
    main()
