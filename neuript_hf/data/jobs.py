"""How the work on many recordings is shared: by processes of one machine, and by the jobs of a cluster."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any

import torch


@dataclass(frozen=True)
class Share:
    """
    The part of the work that one of several jobs does: every `count`-th thing, from number `index` on. Which things
    these are depends on nothing else, so the jobs need not talk to each other.

    Args:
        index: this job's number, from 0.
        count: number of jobs.
        origin: where these two come from, for messages.

    Raises:
        ValueError: if `index` is not one of `count` jobs.
    """

    index: int = 0
    count: int = 1
    origin: str = ""

    def __post_init__(self):
        if self.count < 1:
            raise ValueError(f"num_shards must be at least 1, but is {self.count}.")
        if not 0 <= self.index < self.count:
            raise ValueError(f"shard_index must be 0 to {self.count - 1} (num_shards - 1), but is {self.index}.")

    def of(self, things: Sequence) -> Sequence:
        """This job's part of all things."""
        return things[self.index :: self.count]

    def __str__(self) -> str:
        return f"shard {self.index} of {self.count}" + f" ({self.origin})" * bool(self.origin)


def share_of_this_job(
    shard_index: int | None = None, num_shards: int | None = None, environment: Mapping[str, str] = os.environ
) -> Share:
    """
    The share that is given, or else the one that follows from how this process was started: as a task of a SLURM
    array (`SLURM_ARRAY_TASK_ID`; the array may begin at 1 and have a step), as a process of `torchrun` or `accelerate
    launch` (`RANK`, `WORLD_SIZE`), or both. Without any of these it is all of the work.

    `SLURM_PROCID` does not count: it is also set where a script runs once for all tasks of a job.

    Raises:
        ValueError: if only one of the numbers is given, they do not fit, or the array has holes.
    """
    if (shard_index is None) != (num_shards is None):
        raise ValueError("shard_index and num_shards belong together: give both, or none of them.")
    if num_shards is not None:
        return Share(shard_index, num_shards)
    index, count, origin = 0, 1, []
    if "SLURM_ARRAY_TASK_ID" in environment:
        index, count = _place_in_array(environment)
        origin.append(f"SLURM_ARRAY_TASK_ID={environment['SLURM_ARRAY_TASK_ID']}")
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, processes = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        index, count = index * processes + rank, count * processes
        origin.append(f"RANK={rank}, WORLD_SIZE={processes}")
    return Share(index, count, ", ".join(origin))


def _place_in_array(environment: Mapping[str, str]) -> tuple[int, int]:
    """This task's number from 0, and the number of tasks; SLURM's own numbers may begin anywhere."""
    names = ("ID", "MIN", "MAX", "STEP", "COUNT")
    task, first, last, step, count = (int(environment.get(f"SLURM_ARRAY_TASK_{name}", 1)) for name in names)
    index, odd = divmod(task - first, step)
    if odd or (count - 1) * step != last - first:
        raise ValueError(
            f"The SLURM array has holes ({count} tasks from {first} to {last} in steps of {step}), so a task's share "
            "does not follow from its number. Submit a whole array, such as --array=0-19 (it leaves out what is "
            "done), or give shard_index=3, num_shards=20."
        )
    return index, count


def in_processes(
    function: Callable, tasks: Sequence[tuple], num_proc: int, preload: str = __name__
) -> Iterator[tuple[tuple, Any]]:
    """
    Calls `function(*task)` for each of the tasks, in `num_proc` processes, and yields a task and what came back
    whenever one is done. With one process it is this one.

    The processes share the cores: each computes with its part of them, unless `OMP_NUM_THREADS` says otherwise. They
    end when this process is killed.

    Args:
        preload: name of the module that a new process has imported before it begins.

    Raises:
        ChildProcessError: if a process was killed.
    """
    if num_proc == 1:
        for task in tasks:
            yield task, function(*task)
        return
    cores = len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else os.cpu_count() or 1
    context = fresh_processes(preload)
    with ProcessPoolExecutor(num_proc, context, _begin, (max(1, cores // num_proc),)) as pool:
        futures = {pool.submit(function, *task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "A process was killed, perhaps because memory ran out. What is finished is kept: run it again, with "
                "fewer processes if memory is short."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def fresh_processes(preload: str = __name__) -> BaseContext:
    """
    Processes that inherit no threads or locks; where possible from a server that imports once for all of them.

    Args:
        preload: name of the module that the server imports.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


def _begin(threads: int) -> None:
    """Sets the threads of this process, and ends it when its parent was killed; it would wait for work forever."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def reason_of(error: Exception, path: Any, name: str) -> str:
    """
    What went wrong with a recording, under the name of the recording and not that of the local folder: folders are
    private, and would make results depend on the machine.
    """
    reason = f"{type(error).__name__}: {error}"
    for spelling in (os.path.abspath(str(path)), str(path)):
        reason = reason.replace(spelling, name)
    return reason


__all__ = ["Share", "fresh_processes", "in_processes", "reason_of", "share_of_this_job"]
