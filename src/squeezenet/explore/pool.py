"""The worker processes of one machine: started, shown, replaced where they die, and stopped."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from squeezenet.errors import StudyError
from squeezenet.explore.remote_progress import ShownProgress
from squeezenet.explore.worker import WorkerTask, work
from squeezenet.progress import Progress

_MAX_FAILURES = 3
"""So many workers that end with an error in a row end the study's command."""
_SECONDS_BETWEEN_SIGNALS = 1.0
_SECONDS_TO_STOP = 120.0
"""A worker writes its checkpoint within seconds; what is being measured may take longer."""


class _Running:
    """A worker process, its pipe, and where its progress is shown."""

    def __init__(self, task: WorkerTask, slot: int, gpu: int | None, progress: Progress) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe(duplex=False)
        self.slot = slot
        self.shown = ShownProgress(progress)
        self.process: BaseProcess = context.Process(
            target=work, args=(task, child), name=f"trials-{slot}"
        )
        with _visible_gpu(gpu):
            self.process.start()
        child.close()

    def show_reports(self) -> None:
        """Show what has come through the pipe."""
        try:
            while self.pipe.poll():
                self.shown.show(self.pipe.recv())
        except (EOFError, OSError):
            pass

    def close(self) -> None:
        self.show_reports()
        self.shown.close()
        self.pipe.close()


class WorkerPool:
    """``jobs`` worker processes; use it as a context manager, which stops them.

    ``gpus``: each worker sees one of so many GPUs; 0 leaves all visible to each.
    """

    def __init__(self, task: WorkerTask, jobs: int, gpus: int, progress: Progress) -> None:
        self._task, self._progress = task, progress
        self._jobs, self._gpus = jobs, gpus
        self._running: list[_Running] = []
        self._failures = 0

    def __enter__(self) -> WorkerPool:
        for slot in range(self._jobs):
            self._start(slot)
        return self

    def __exit__(self, *exc: object) -> None:
        deadline = time.monotonic() + _SECONDS_TO_STOP
        while not self.is_idle:
            for worker in self._running:
                # SIGTERM: checkpoint, and back into the queue. Again, since a training that ends
                # at this moment takes no notice.
                worker.process.terminate()
                if time.monotonic() > deadline:
                    worker.process.kill()
            self.show(_SECONDS_BETWEEN_SIGNALS)
        for worker in self._running:
            worker.process.join()
            worker.close()
        self._running.clear()

    @property
    def is_idle(self) -> bool:
        """Whether every worker has ended."""
        return not any(worker.process.is_alive() for worker in self._running)

    def show(self, seconds: float) -> None:
        """Show the workers' progress for so many seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            pipes: list[Connection] = [w.pipe for w in self._running if w.process.is_alive()]
            if not pipes:
                time.sleep(min(left, 0.1))
                continue
            alive = [w.process.sentinel for w in self._running if w.process.is_alive()]
            wait([*pipes, *alive], timeout=left)
            for worker in self._running:
                worker.show_reports()
            if not all(worker.process.is_alive() for worker in self._running):
                return

    def replace_dead(self) -> bool:
        """Start a worker for each that ended with an error; return whether there was one.

        Raises:
            StudyError: several in a row did.
        """
        found = False
        for worker in list(self._running):
            code = worker.process.exitcode
            if code is None:
                continue
            worker.close()
            self._running.remove(worker)
            if code == 0:
                continue
            found = True
            self._failures += 1
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            if self._failures >= _MAX_FAILURES:
                raise StudyError(
                    f"{self._failures} worker processes ended {how} one after another; their "
                    "messages are above, and finished trials are kept"
                )
            self._progress.log(f"a worker process ended {how}; another takes its place")
            self._start(worker.slot)
        return found

    def forget_failures(self) -> None:
        """Begin to count failures anew: a trial was finished."""
        self._failures = 0

    def _start(self, slot: int) -> None:
        gpu = slot % self._gpus if self._gpus else None
        self._running.append(_Running(self._task, slot, gpu, self._progress))


@contextmanager
def _visible_gpu(gpu: int | None) -> Iterator[None]:
    """Let a process that is started see one GPU only: of those that this process sees."""
    if gpu is None:
        yield
        return
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    visible = before.split(",") if before else []
    os.environ[name] = visible[gpu] if gpu < len(visible) else str(gpu)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
