"""Runs EZKL jobs in worker processes with a time limit, and leaves none of them behind.

A worker is its own process group with its own temporary folder. It is killed, and its folder with private
rows removed, on timeout, on Ctrl-C and when a job of the batch fails; when this process dies, Linux kills it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import IO, Any, cast

from .errors import ProverError, ProverTimeout

Request = Callable[[], dict[str, Any]]
"""Makes the JSON object for one job; called just before it is sent, since a shard fills a megabyte."""
OnAnswer = Callable[[int, dict[str, Any]], None]
"""Called with a job's position and its answer, one at a time; an error that it raises ends the batch."""

_ANSWER_LIMIT_BYTES = 100_000


def run_jobs(requests: Sequence[Request], processes: int, timeout_s: float, on_answer: OnAnswer) -> None:
    """Run each request in one of `processes` workers and hand every answer to `on_answer`.

    Raises:
        ProverTimeout: a job took longer than `timeout_s`.
        ProverError: a worker could not be started or died.
    """
    count = max(1, min(processes, len(requests)))
    batch = _Batch(requests, timeout_s, on_answer)
    threads = [
        threading.Thread(target=batch.work, args=(max(1, available_cores() // count),), daemon=True)
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        batch.stop(ProverError("interrupted"))
        for thread in threads:
            thread.join()
        raise
    if batch.error is not None:
        raise batch.error


def available_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Batch:
    """The jobs of one call, shared by the threads that wait for workers."""

    def __init__(self, requests: Sequence[Request], timeout_s: float, on_answer: OnAnswer) -> None:
        self.error: BaseException | None = None
        self._waiting: queue.SimpleQueue[tuple[int, Request]] = queue.SimpleQueue()
        for entry in enumerate(requests):
            self._waiting.put(entry)
        self._timeout_s = timeout_s
        self._on_answer = on_answer
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def work(self, threads: int) -> None:
        """Run jobs in one worker until none is left or one fails."""
        try:
            with _Worker(threads) as worker:
                with self._lock:
                    self._workers.append(worker)
                while self.error is None:
                    position, request = self._waiting.get_nowait()
                    answer = worker.exchange(request(), self._timeout_s)
                    with self._lock:
                        self._on_answer(position, answer)
        except queue.Empty:
            pass
        except BaseException as error:
            # A thread must not swallow what its caller has to see: run_jobs raises it again.
            self.stop(error)

    def stop(self, error: BaseException) -> None:
        """Keep the first error and end all workers."""
        with self._lock:
            self.error = self.error or error
            for worker in self._workers:
                worker.kill()


class _Worker:
    """One worker process."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> _Worker:
        self._folder = tempfile.TemporaryDirectory(prefix="zk0-worker-", ignore_cleanup_errors=True)
        self._errors_path = Path(self._folder.name) / "stderr"
        package_parent = str(Path(__file__).resolve().parent.parent)
        search_path = [package_parent, *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {
            "RAYON_NUM_THREADS": str(self._threads),
            "PYTHONPATH": os.pathsep.join(search_path),
            "TMPDIR": self._folder.name,
        }
        with self._errors_path.open("wb") as errors:
            # The worker asks to be killed when the thread that starts it ends; this one outlives it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "zk0_proofs.worker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=os.environ | own,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()
        self._folder.cleanup()

    def kill(self) -> None:
        """End the process and all that it started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def exchange(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send one request and return the answer."""
        stdin = cast(IO[bytes], self._process.stdin)
        stdout = cast(IO[bytes], self._process.stdout)
        timer = threading.Timer(timeout_s, self.kill)
        timer.start()
        started = monotonic()
        line = b""
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            line = stdout.readline(_ANSWER_LIMIT_BYTES)
        except BrokenPipeError:
            pass
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        if monotonic() - started >= timeout_s:
            raise ProverTimeout(
                f"EZKL gave no answer within {timeout_s:.0f} s; give it more time or less load"
            )
        raise ProverError(f"the EZKL process ended: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self._errors_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.wait()}"
