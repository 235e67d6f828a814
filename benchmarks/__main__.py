"""The command line: `python -m benchmarks compare CONFIG`, `run CONFIG` and `report FOLDER`."""

import os

# tqdm reads it when it is imported, here and in the processes of this one: PML's trainers and
# testers draw no bars, the one over all runs asks for itself.
os.environ.setdefault("TQDM_DISABLE", "1")

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks import distributed
from benchmarks.errors import FailedRunsError, SettingsError
from benchmarks.reporting.papers import against_paper
from benchmarks.reporting.report import report, report_folds
from benchmarks.results import writing
from benchmarks.settings.reading import describe, load
from benchmarks.training.compare import compare, read_data
from benchmarks.training.split_checks import overlaps


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
    except (SettingsError, FailedRunsError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # Such as a full disk, or a folder that nobody may write to.
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on from here.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    overriding = "Any setting of the file can be given as a.b=c, such as epochs=5."
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument("config", help="a settings file, such as benchmarks/configs/glyphs.yaml")
    config.add_argument(
        "--dry-run",
        action="store_true",
        help="run nothing: print the settings, and how many classes and images there are",
    )
    config.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package whose classes and functions the file may name, beside the libraries'; "
        "may be given several times",
    )

    everything = commands.add_parser(
        "compare", parents=[config], help="run and compare all variants", epilog=overriding
    )
    everything.set_defaults(command=_run, variant=None)

    single = commands.add_parser("run", parents=[config], help="run one variant", epilog=overriding)
    single.add_argument("--variant", required=True)
    single.set_defaults(command=_run)

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
    return parser


def _run(arguments: argparse.Namespace, overrides: list[str]) -> None:
    comparison = load(arguments.config, overrides, arguments.variant, arguments.imports)
    if arguments.dry_run:
        if distributed.rank() == 0:
            # The settings first: reading the data may take long, or fail.
            print(describe(comparison), end="", flush=True)
            splits = read_data(comparison)
            found = {"splits": splits.counts(), "overlaps": overlaps(splits)}
            print(yaml.safe_dump(found, sort_keys=False), end="")
        return
    try:
        compare(comparison)
    except FailedRunsError:
        _show(comparison.folder)
        raise
    _show(comparison.folder)


def _report(arguments: argparse.Namespace, _: list[str]) -> None:
    if arguments.against_paper:
        print(against_paper(arguments.folders, arguments.against_paper))
    elif len(arguments.folders) > 1:
        print(report_folds(arguments.folders))
    else:
        _show(arguments.folders[0])


def _show(folder: Path) -> None:
    if distributed.rank() == 0:
        with writing.writable(folder):
            print(report(folder))
        print(f"Results in {folder}")


if __name__ == "__main__":
    main()
