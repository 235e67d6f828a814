"""One process runs a variant of a results folder at a time."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from benchmarks.errors import SettingsError
from benchmarks.results.paths import LOCK


@contextmanager
def claimed(folder: Path, variants: Iterable[str]) -> Iterator[None]:
    """Keep others from running these variants. However this process ends, they are free then.

    Raises:
        SettingsError: if another process is running one of them.
    """
    with ExitStack() as held:
        for variant in variants:
            (folder / variant).mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(folder / variant / LOCK, timeout=0))
            except Timeout as error:
                raise SettingsError(
                    f"{folder / variant}: another process is running this variant. Wait for it, or "
                    "give the comparison another name (name=...)."
                ) from error
        yield
