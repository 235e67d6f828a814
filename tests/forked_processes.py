"""Commands in processes of their own, forked off one that has imported the runner.

A new process of Python takes seconds to import it. Some tests start one all the same, to see the
command line, torchrun, and that nothing is left of either.
"""

import multiprocessing
import os
import runpy
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from torch.distributed import TCPStore

from benchmarks import __main__ as command_line
from benchmarks.processes import start_method
from benchmarks.training import workers

_context = multiprocessing.get_context(start_method(*workers.NEEDED))
OUTPUT = "output.txt"


def command(*arguments: str) -> None:
    """Run a command of the runner."""
    command_line.main(arguments)


def script(path: str) -> None:
    """Run a script."""
    runpy.run_path(path, run_name="__main__")


def started(
    folder: Path, task: Callable[..., None], *arguments: str, environment: Mapping[str, str] = {}
) -> BaseProcess:
    """Start a task in a folder, where what it prints goes to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    process = _context.Process(target=_run, args=(folder, environment, task, arguments))
    process.start()
    return process


def ended(process: BaseProcess, seconds: float = 300) -> int | None:
    """Return how a process ended, or None if it had to be killed after some time."""
    process.join(seconds)
    code = process.exitcode
    # The process of the tests would wait for it.
    process.kill()
    return code


def torchrun(folders: list[Path], task: Callable[..., None], *arguments: str) -> list[int | None]:
    """Run a task as torchrun does, a rank in each folder; return how each process ended.

    If one fails, the others are ended.
    """
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    shared = {
        "WORLD_SIZE": str(len(folders)),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    processes = []
    for rank, folder in enumerate(folders):
        own = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(started(folder, task, *arguments, environment=own))
    running = list(processes)
    while running:
        wait([process.sentinel for process in running])
        running = [process for process in running if process.is_alive()]
        if any(process.exitcode for process in processes):
            for process in running:
                process.terminate()
    return [process.exitcode for process in processes]


def _run(
    folder: Path,
    environment: Mapping[str, str],
    task: Callable[..., None],
    arguments: tuple[str, ...],
) -> None:
    # A shell has its background commands ignore interrupts, and this process would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    os.chdir(folder)
    with open(OUTPUT, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    task(*arguments)
