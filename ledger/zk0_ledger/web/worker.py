"""One thread that does jobs in their order: what is not safe to share among threads belongs to it alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class Worker:
    """A daemon thread with a queue; other than an executor of the library it holds up no exit."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Return how many jobs wait."""
        return self._jobs.qsize()

    def submit(self, job: Callable[[], _Result]) -> Future[_Result]:
        """Have `job` done after all that wait, and return what becomes of it."""
        future: Future[_Result] = Future()
        self._jobs.put((future, job))
        return future

    def stop(self, timeout_s: float) -> None:
        """End the thread after the jobs that wait, or leave it behind after `timeout_s`."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (found := self._jobs.get()) is not None:
            future, job = found
            try:
                future.set_result(job())
            except BaseException as error:  # whoever waits for the job gets it
                future.set_exception(error)
