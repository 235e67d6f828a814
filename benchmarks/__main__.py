"""The command line: `python -m benchmarks compare CONFIG` and `python -m benchmarks run CONFIG`."""

import argparse
import sys
from collections.abc import Sequence

from benchmarks.compare import compare
from benchmarks.errors import SettingsError
from benchmarks.results import is_finished, read, run_folder
from benchmarks.run import execute, load_splits
from benchmarks.settings import load
from benchmarks.summary import to_text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; wrong settings end it with a message."""
    parsed, overrides = _parser().parse_known_args(arguments)
    try:
        parsed.command(parsed, overrides)
    except SettingsError as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    overriding = "Any setting of the file can be given as a.b=c, such as epochs=5."
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument("config", help="a settings file, such as benchmarks/configs/glyphs.yaml")

    everything = commands.add_parser(
        "compare", parents=[config], help="run and compare all variants", epilog=overriding
    )
    everything.set_defaults(command=_compare)

    single = commands.add_parser(
        "run", parents=[config], help="run one variant with one seed", epilog=overriding
    )
    single.add_argument("--variant", required=True)
    single.add_argument("--seed", type=int, default=0)
    single.set_defaults(command=_run)
    return parser


def _compare(arguments: argparse.Namespace, overrides: list[str]) -> None:
    comparison = load(arguments.config, overrides)
    print(to_text(compare(comparison)))
    print(f"Results in {comparison.folder}")


def _run(arguments: argparse.Namespace, overrides: list[str]) -> None:
    overrides = [*overrides, f"seeds=[{arguments.seed}]"]
    comparison = load(arguments.config, overrides, variant=arguments.variant)
    (run,) = comparison.runs
    folder = run_folder(comparison.folder, run)
    if not is_finished(folder, run):
        execute(run, load_splits(run.data), folder)
    print(read(comparison.folder, [run]).to_string(index=False))


if __name__ == "__main__":
    main()
