"""The process in which EZKL runs for `workers.py`: requests come in as JSON lines, answers go out as such.

EZKL blocks without a way to interrupt it and holds Python's lock, so long or parallel work belongs in a
process that can be killed; this one also ends by itself when the process that started it does.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import engine
from .digest import keccak
from .errors import Zk0Error
from .field import MODULUS, to_hex
from .readout import Shape
from .types import Proof

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer requests from standard input until it is closed."""
    _end_with_parent(int(sys.argv[1]))
    # EZKL may write to standard output, which carries our answers: keep that channel to ourselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _HANDLERS[request["kind"]](request)
        except Zk0Error as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _end_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the closed input ends it in time."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent process ended before the worker was ready")


def _prove(request: dict[str, Any]) -> dict[str, Any]:
    """Return a proof: commit to all inputs, draw rho from the commitments and the tag, prove."""
    settings, compiled, vk, pk, srs = (
        Path(request[name]) for name in ("settings", "compiled", "vk", "pk", "srs")
    )
    inputs: list[list[str]] = request["inputs"]
    commitments = [engine.commit(elements, vk, settings, srs).to_bytes() for elements in inputs]
    rho = int.from_bytes(keccak(b"".join(commitments) + bytes.fromhex(request["tag"])), "big") % MODULUS
    with tempfile.TemporaryDirectory() as folder:
        proof = engine.prove([*inputs, [to_hex(rho)]], Path(folder), compiled, vk, pk, srs)
    return {"proof": proof.content.hex(), "instances": [str(value) for value in proof.instances]}


def _verify(request: dict[str, Any]) -> dict[str, Any]:
    """Return an empty answer if the SNARK holds, or why it is refused."""
    diff, improvement, rho = request["instances"]
    proof = Proof(content=bytes.fromhex(request["proof"]), instances=(int(diff), int(improvement), int(rho)))
    try:
        engine.verify(proof, Path(request["vk"]), Path(request["settings"]), Path(request["srs"]))
    except engine.SnarkRefused as refusal:
        return {"refused": str(refusal)}
    return {}


def _build(request: dict[str, Any]) -> dict[str, Any]:
    """Build a circuit's artefacts and return an empty answer."""
    # Proving workers start without what only building needs.
    from .build import build_circuit

    shape = Shape(**request["shape"])
    build_circuit(shape, Path(request["network"]), Path(request["srs"]), Path(request["folder"]))
    return {}


_HANDLERS = {"prove": _prove, "verify": _verify, "build": _build}


if __name__ == "__main__":
    main()
