"""Writes the packaged network and manifest anew: `python -m zk0_proofs.pin`, after a change of the circuit.

Needs torch. A changed manifest is another circuit, with another id on the ledger.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .artifacts import CircuitSource, open_circuit, packaged_dev_srs, packaged_network
from .circuit import export_network
from .files import write_atomic
from .readout import READOUT_SHAPE


def pin_circuit() -> None:
    """Export the network, build the circuit on the DEV SRS and write what identifies it."""
    write_atomic(packaged_network(), export_network())
    source = CircuitSource(
        shape=READOUT_SHAPE, network=packaged_network(), srs=packaged_dev_srs(), dev_srs=True, pinned=None
    )
    with tempfile.TemporaryDirectory() as cache:
        manifest = open_circuit(source, Path(cache)).manifest
    content = manifest.model_dump_json(indent=2, exclude={"compiled"}) + "\n"
    write_atomic(packaged_network().with_name("manifest.json"), content.encode())


if __name__ == "__main__":
    pin_circuit()
