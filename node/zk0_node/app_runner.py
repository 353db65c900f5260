"""Runs the node's app for each message, in a process that begins with everything imported.

Flower starts a program for each message. With PyTorch and LeRobot that program imports for 15 CPU seconds
before it does anything, and a round has a dozen messages. Here a server process imports once and forks for
each message, so that messages still cannot disturb each other and give their memory back.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import NoReturn

from zk0_ledger.processes import die_with
from zk0_proofs.errors import ConfigError
from zk0_proofs.logs import setup_child_logging

logger = logging.getLogger(__name__)

POLL_S = 0.2
"""How often the SuperNode is asked for work; it is on the same machine."""
PRELOADED = (
    "flwr.supernode.runtime.run_clientapp",
    "lerobot.policies.smolvla.modeling_smolvla",
    "zk0_node.client_app",
    "zk0_node.learning",
)
"""What a task needs. Importing it starts no thread and touches no GPU, so that a fork is safe."""


def main() -> None:
    """Run tasks of the SuperNode whose address and secret file are the arguments, until told to stop."""
    if len(sys.argv) != 3:
        raise ConfigError("usage: python -m zk0_node.app_runner HOST:PORT SECRET_FILE")
    setup_child_logging()
    signal.signal(signal.SIGTERM, _end)
    run_tasks(sys.argv[1], Path(sys.argv[2]).read_bytes())


def run_tasks(address: str, secret: bytes) -> None:
    """Take tasks at the SuperNode's Runtime API, one process each."""
    import httpx
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.constant import TaskType
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.interceptors.http.superexec_auth import SuperExecAuthHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    forkserver.ensure_running()  # imports now, while nobody waits for it
    client = RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,  # on the loopback interface of this machine
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
            SuperExecAuthHttpInterceptor(
                master_secret=secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}
            ),
        ],
    )
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    running: list[ForkServerProcess] = []
    while True:
        running = [process for process in running if process.is_alive()]
        try:
            answer = client.AcquireTask(request)
        except httpx.HTTPError as error:
            logger.info("the SuperNode does not answer: %s", error)
            time.sleep(1)
            continue
        if answer.token:
            process = context.Process(target=_run_task, args=(address, answer.token, os.getpid()))
            process.start()
            running.append(process)
        else:
            time.sleep(POLL_S)


def _run_task(address: str, token: str, runner: int) -> None:
    """Run one task as `flwr-clientapp` does, in a process of its own."""
    from flwr.supernode.runtime.run_clientapp import run_clientapp

    setup_child_logging()
    die_with(runner)  # a task may be killed at any instant
    run_clientapp(runtime_api_address=address, token=token, insecure=True, runtime_dependency_install=False)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
