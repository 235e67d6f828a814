"""How many processes there is room for, and that none outlives the one that started it."""

import multiprocessing
import os
import threading
import time


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_method(*modules: str) -> str:
    """Return how processes start: forked off one that has imported what they need.

    A process with threads is not forked safely, and one that is spawned imports everything anew,
    which takes seconds. What a forked process starts is forked off the same one.

    Arguments:
        modules: what they need.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(list(modules))
    return "forkserver"


def end_with_parent(_: object = None) -> None:
    """Let this process end as soon as the one that started it does, however that ends.

    A worker of a DataLoader calls it with its number. By itself it would wait forever where it is
    still starting, or has batches to hand over, when the other process is killed. A process of
    torchrun would go on training.
    """
    threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()


def _wait_for_parent(pid: int) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    else:
        # torchrun starts others in ways of its own; an orphan is given another parent.
        while os.getppid() == pid:
            time.sleep(1)
    os._exit(1)
