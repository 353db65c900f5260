"""What operators measure, as Prometheus metrics. Nothing is collected and nothing listens unless asked for.

A program makes one `Metrics` and hands it to the instruments of its role. Without `collect` they have the
same methods and do nothing, so that callers need not ask. Labels take names of our own only, never what a
node sent: each new value of a label costs memory for ever.

Several processes of one role, as Flower starts them for a node, add up in a folder that they share if
PROMETHEUS_MULTIPROC_DIR names it before they start. The program that stays serves it (`shared_metrics`);
those that come and go collect (`metrics_of_process`).
"""

from __future__ import annotations

import errno
import fcntl
import functools
import itertools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from .errors import ConfigError, StateError
from .types import Reason

if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry

logger = logging.getLogger(__name__)

_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
_LOCAL = "127.0.0.1"
_FILES = ("counter", "histogram", "gauge_mostrecent")
_FILE_BYTES = 256 * 1024
"""Room for all values of one process and kind."""


class Instrument(Protocol):
    """The part of Prometheus's counters, gauges and histograms that is used here."""

    def labels(self, **labels: str) -> Instrument:
        """Return the instrument of these labels."""

    def inc(self, amount: float = 1) -> None:
        """Add to a counter or gauge."""

    def set(self, value: float) -> None:
        """Set a gauge."""

    def observe(self, amount: float) -> None:
        """Add a value to a histogram."""


class _Idle:
    """Stands in for every instrument while nothing is collected."""

    def labels(self, **_labels: str) -> Self:
        return self

    def inc(self, amount: float = 1) -> None:
        pass

    def set(self, value: float) -> None:
        pass

    def observe(self, amount: float) -> None:
        pass


class _Slot:
    """A number that no other living process of a shared folder has: the lowest free one.

    By itself prometheus_client names files by process ids, so that the tasks of weeks leave files without
    end. With slots there are as many as processes ever lived at once. Whoever takes a slot over goes on with
    its counters.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process, self._number = 0, 0
        self._locks: IO[bytes] | None = None

    def __call__(self) -> int:
        """Return the number of the process that asks; a forked one gets its own."""
        if self._process != os.getpid():
            self._number, self._process = self._claim(), os.getpid()
        return self._number

    def _claim(self) -> int:
        # The system lets go of these locks however a process ends, and a fork has none of them. Closing any
        # file object of the locked file lets go of them too, hence first, and only one stays open.
        if self._locks is not None:
            self._locks.close()
        self._locks = (self._folder / "slots").open("ab")
        number = next(number for number in itertools.count() if _locked(self._locks, number))
        # Values are written through memory: a disk that is full then would kill the process.
        for kind in _FILES:
            with (self._folder / f"{kind}_{number}.db").open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
        return number


def _locked(file: IO[bytes], position: int) -> bool:
    """Lock one byte and return whether no other process has it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


@functools.cache
def _collect_in(folder: str) -> None:
    """Let prometheus_client keep this process's values in `folder`, in files of a slot."""
    from prometheus_client import values

    slot = _Slot(Path(folder))
    slot()
    values.ValueClass = values.MultiProcessValue(slot)  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one program, kept apart from those that libraries may register."""

    def __init__(self, *, collect: bool = False) -> None:
        """Collect metrics, or, by default, do nothing at all.

        Raises:
            OSError: the folder that PROMETHEUS_MULTIPROC_DIR names cannot be written.
        """
        self._registry: CollectorRegistry | None = None
        if collect:
            from prometheus_client import CollectorRegistry, ProcessCollector

            if _SHARED in os.environ:
                _collect_in(os.environ[_SHARED])
            self._registry = CollectorRegistry()
            if _SHARED not in os.environ:
                ProcessCollector(registry=self._registry)

    @property
    def is_collecting(self) -> bool:
        """Return whether anything is collected."""
        return self._registry is not None

    def counter(self, name: str, text: str, *labels: str) -> Instrument:
        """Return a counter; Prometheus adds `_total` to its name."""
        return self._made("Counter", name, text, labels)

    def gauge(self, name: str, text: str, *labels: str) -> Instrument:
        """Return a gauge."""
        return self._made("Gauge", name, text, labels, multiprocess_mode="mostrecent")

    def seconds(self, name: str, text: str, *labels: str) -> Instrument:
        """Return a histogram of durations from a tenth of a second to an hour."""
        return self._made("Histogram", name, text, labels, buckets=_SECONDS)

    def _made(self, kind: str, name: str, text: str, labels: tuple[str, ...], **more: Any) -> Instrument:
        if self._registry is None:
            return _Idle()
        import prometheus_client

        made: Instrument = getattr(prometheus_client, kind)(
            f"zk0_{name}", text, labels, registry=self._registry, **more
        )
        return made

    def text(self) -> str:
        """Return all metrics in Prometheus's text format, empty if nothing is collected."""
        if self._registry is None:
            return ""
        from prometheus_client import generate_latest

        return generate_latest(self._whole()).decode()

    def serve(self, port: int, host: str = _LOCAL) -> MetricsServer:
        """Serve the metrics over HTTP at `port` until closed; port 0 takes a free one.

        Raises:
            ConfigError: nothing is collected, or the port is taken.
        """
        if self._registry is None:
            raise ConfigError("metrics cannot be served because none are collected; ask for both")
        return _serve(self._whole(), port, host)

    def _whole(self) -> CollectorRegistry:
        """Return the registry, or what all processes added where they share a folder."""
        assert self._registry is not None  # noqa: S101 (callers have looked)
        folder = os.environ.get(_SHARED)
        return self._registry if folder is None else _shared_registry(Path(folder))


def _shared_registry(folder: Path) -> CollectorRegistry:
    if not folder.is_dir():
        raise StateError(f"{_SHARED} is {folder}, which is no folder; make it, or unset the variable")
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    shared = CollectorRegistry()
    MultiProcessCollector(shared, str(folder))  # type: ignore[no-untyped-call]
    return shared


def _serve(registry: CollectorRegistry, port: int, host: str) -> MetricsServer:
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"metrics cannot be served at {host}:{port}: {error}; choose another port"
        ) from error
    return MetricsServer(server, thread)


@dataclass(frozen=True, slots=True)
class MetricsServer:
    """A running HTTP server of metrics."""

    _server: WSGIServer
    _thread: Thread

    @property
    def port(self) -> int:
        """Return the port at which it listens."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(metrics: Metrics, port: int, host: str = _LOCAL) -> MetricsServer:
    """Serve `metrics`, on this machine only unless `host` says otherwise.

    Raises:
        ConfigError: nothing is collected, or the port is taken.
    """
    return metrics.serve(port, host)


@contextmanager
def shared_metrics(folder: Path, port: int | None) -> Iterator[dict[str, str]]:
    """Serve on this machine what processes collect in `folder`, and yield the variables that let them.

    Without a port nothing is served or collected. All figures begin at zero with the program that serves.

    Raises:
        ConfigError: the port is taken.
        StateError: the folder cannot be written.
    """
    if not port:
        yield {}
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.db"):
            path.unlink()
    except OSError as error:
        raise StateError(f"metrics cannot be kept in {folder}: {error.strerror}; fix permissions") from error
    server = _serve(_shared_registry(folder), port, _LOCAL)
    try:
        yield {_SHARED: str(folder)}
    finally:
        server.close()


def metrics_of_process() -> Metrics:
    """Return metrics that collect if this process was handed a folder for them, else such as do nothing.

    What cannot be written is not collected: that is no reason to stop work.
    """
    if _SHARED not in os.environ:
        return Metrics()
    try:
        return Metrics(collect=True)
    except OSError as error:
        logger.warning("no metrics are collected in %s: %s", os.environ[_SHARED], error)
        return Metrics()


class AggregatorMetrics:
    """What an aggregator counts and times."""

    def __init__(self, metrics: Metrics) -> None:
        """Make the instruments in `metrics`, once a program."""
        self.is_collecting = metrics.is_collecting
        self._nodes = metrics.gauge(
            "aggregator_connected_nodes", "Nodes that were connected when a campaign last looked."
        )
        self._round = metrics.gauge("aggregator_round", "Round that is running, 0 before the first.")
        self._started = metrics.gauge(
            "aggregator_step_started_timestamp_seconds",
            "When the running steps began, in Unix time; 0 for steps that do not run.",
            "step",
        )
        self._seconds = metrics.seconds("aggregator_step_seconds", "Duration of each step.", "step")
        self._contributions = metrics.counter(
            "aggregator_contributions", "Contributions of settled rounds: admitted, or why refused.", "reason"
        )
        self._messages = metrics.counter(
            "aggregator_messages", "Messages to nodes (sent) and from them (received).", "action", "direction"
        )
        self._bytes = metrics.counter(
            "aggregator_message_bytes", "Bytes of these messages' content.", "action", "direction"
        )
        self._transactions = metrics.counter("aggregator_ledger_transactions", "Mined transactions.", "call")
        self._gas = metrics.counter("aggregator_ledger_gas", "Gas that they used.", "call")

    def connected(self, nodes: int) -> None:
        """Tell how many nodes are connected."""
        self._nodes.set(nodes)

    def round(self, number: int) -> None:
        """Tell which round is running."""
        self._round.set(number)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, such as `R5`: without a round's number, which would be a new label each time."""
        with _timed(self._seconds.labels(step=name)):
            started = self._started.labels(step=name)
            started.set(time.time())
            try:
                yield
            finally:
                started.set(0)

    def contribution(self, reason: Reason) -> None:
        """Count a contribution of a settled round."""
        self._contributions.labels(reason=reason.name.lower()).inc()

    def sent(self, action: str, size: int) -> None:
        """Count a message to a node."""
        self._message(action, "sent", size)

    def received(self, action: str, size: int) -> None:
        """Count a message from a node."""
        self._message(action, "received", size)

    def _message(self, action: str, direction: str, size: int) -> None:
        self._messages.labels(action=action, direction=direction).inc()
        self._bytes.labels(action=action, direction=direction).inc(size)

    def transaction(self, call: str, gas: int) -> None:
        """Count a mined transaction by the name of the contract's function."""
        self._transactions.labels(call=call).inc()
        self._gas.labels(call=call).inc(gas)


class NodeMetrics:
    """What a node counts and times."""

    def __init__(self, metrics: Metrics) -> None:
        """Make the instruments in `metrics`, once a process."""
        self.is_collecting = metrics.is_collecting
        self._steps = metrics.counter(
            "node_steps", "Requests that were answered or failed.", "action", "outcome"
        )
        self._seconds = metrics.seconds("node_step_seconds", "Time to answer a request.", "action")
        self._proof_seconds = metrics.seconds("node_proof_seconds", "Time to make a proof, and how many.")
        self._round = metrics.gauge("node_last_round", "Last round in which the node took part.")
        self._gain = metrics.gauge(
            "node_last_proven_gain", "Loss per row and dimension that the last own proof shows as gained."
        )
        self._uses = metrics.gauge("node_shard_uses_left", "Proofs that a shard may still serve.", "shard")

    @contextmanager
    def step(self, action: str) -> Iterator[None]:
        """Time the answer to a request and count it as answered, or as failed if the body raises."""
        outcome = "failed"
        try:
            with _timed(self._seconds.labels(action=action)):
                yield
            outcome = "answered"
        finally:
            self._steps.labels(action=action, outcome=outcome).inc()

    def proof(self, seconds: float) -> None:
        """Count a proof and the time that it took."""
        self._proof_seconds.observe(seconds)

    def round(self, number: int) -> None:
        """Tell in which round the node takes part."""
        self._round.set(number)

    def gain(self, gain: float) -> None:
        """Tell what the node's own proof shows."""
        self._gain.set(gain)

    def shard_uses_left(self, shard: int, uses: int) -> None:
        """Tell how often a held-out shard may still be drawn."""
        self._uses.labels(shard=str(shard)).set(uses)


@contextmanager
def _timed(instrument: Instrument) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        instrument.observe(time.monotonic() - started)
