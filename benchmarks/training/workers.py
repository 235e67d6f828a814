"""Processes that work side by side on the same datasets."""

import multiprocessing
import queue
import signal
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import Any, NamedTuple

from benchmarks.datasets.splits import Splits
from benchmarks.errors import KilledRunError
from benchmarks.processes import end_with_parent, start_method

# What each run imports: an optimizer of torch imports torch's compiler, which takes a second.
NEEDED = ("benchmarks.training.compare", "torch._dynamo")

_context = multiprocessing.get_context(start_method(*NEEDED))
_splits: Splits  # of a worker process
_descriptions: "SimpleQueue[str | None]"


class Workers:
    """Processes that do a task at a time; one that is killed takes no other task with it.

    Used in a `with`. If that is left by an exception, the processes are ended at once: what they
    are at is resumed another time.

    Arguments:
        count: the number of processes.
        splits: the datasets. Read once; torch shares the memory of tensors between processes.
        advance: called here with what a task says of its progress.
    """

    def __init__(self, count: int, splits: Splits, advance: Callable[[str], None]) -> None:
        self._start = partial(_Worker.of, splits, advance)
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._count = count
        for _ in range(count):
            self._idle.put(self._start())
        self._threads = ThreadPoolExecutor(count)
        self._futures: list[Future[None]] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            self._end_now()
        self._threads.shutdown()
        for _ in range(self._count):
            self._idle.get().shutdown()

    def submit(self, task: Callable[..., None], *arguments: Any) -> Future[None]:
        """Do a task in the first process that is free.

        Arguments:
            task: a function of a module: it gets the datasets, what to call with its progress, and
                the arguments.
            arguments: what else it needs.
        """
        future = self._threads.submit(self._do, task, arguments)
        self._futures.append(future)
        return future

    def _do(self, task: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        worker = self._idle.get()
        try:
            worker.pool.submit(_do_in_worker, task, arguments).result()
        except BrokenProcessPool as error:
            worker = self._start()
            raise KilledRunError(
                "The process of this run was killed, as happens where memory runs out: fewer "
                "parallel_runs, data.workers or a smaller batch_size need less. The same command "
                "goes on after the last epoch that the run finished."
            ) from error
        finally:
            self._idle.put(worker)

    def _end_now(self) -> None:
        # An interrupt may have come to this process alone.
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in self._futures):
            for process in multiprocessing.active_children():
                process.terminate()
            time.sleep(0.1)


class _Worker(NamedTuple):
    """A process, and what it says of its progress.

    By a queue of its own: if it is killed while it writes there, that queue stays locked.
    """

    pool: ProcessPoolExecutor
    descriptions: "SimpleQueue[str | None]"
    watcher: threading.Thread

    @classmethod
    def of(cls, splits: Splits, advance: Callable[[str], None]) -> "_Worker":
        """Return a process, which starts once it is given something to do."""
        descriptions: SimpleQueue[str | None] = _context.SimpleQueue()
        watcher = threading.Thread(target=_watch, args=(advance, descriptions), daemon=True)
        watcher.start()
        given = (splits, descriptions)
        pool = ProcessPoolExecutor(1, _context, initializer=_start_worker, initargs=given)
        return cls(pool, descriptions, watcher)

    def shutdown(self) -> None:
        """End the process, which is free."""
        self.pool.shutdown()
        self.descriptions.put(None)
        self.watcher.join()


def _watch(advance: Callable[[str], None], descriptions: "SimpleQueue[str | None]") -> None:
    while (description := descriptions.get()) is not None:
        advance(description)


def ignore_captions() -> None:
    """Keep torch from warning about the captions of PML's bars, which are not drawn."""
    warnings.filterwarnings("ignore", "Converting a tensor with requires_grad")


def _start_worker(splits: Splits, descriptions: "SimpleQueue[str | None]") -> None:
    global _splits, _descriptions
    _splits, _descriptions = splits, descriptions
    # Interrupted from the keyboard, or left without a parent, a worker ends at once: what is
    # resumed must not meet a worker that is still writing. A job of a script may ignore it.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
    ignore_captions()


def _do_in_worker(task: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    task(_splits, _descriptions.put, *arguments)
