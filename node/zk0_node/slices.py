"""The node's evaluation slice of a round: ONNX file, inputs, and its comparison with the integers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zk0_proofs.errors import ConfigError, StateError
from zk0_proofs.files import write_atomic
from zk0_proofs.readout import improvement
from zk0_proofs.slice import mean_loss, run_slice, slice_bytes, slice_digest
from zk0_proofs.types import Digest

from .campaigns import CampaignFolder
from .config import NodeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceReport:
    """What the slice says about one shard."""

    file: Path
    digest: Digest
    loss_before: float
    """Mean squared error per row and dim with the V in force."""
    loss_after: float
    """The same with the node's V."""


def export(
    settings: NodeSettings, campaign: str | None, round_number: int, shard: int, out: Path
) -> SliceReport:
    """Write slice.onnx and inputs.npz to `out`, run the slice and return what it says.

    Raises:
        ConfigError: there is no such campaign.
        StateError: the node took no part in the round, or ONNX Runtime and the integers disagree.
    """
    folder = CampaignFolder(_campaign_folder(settings.home / "campaigns", campaign))
    step, rows = folder.step(round_number), folder.shards.rows(shard)
    content = slice_bytes()
    write_atomic(out / "slice.onnx", content)
    inputs = io.BytesIO()
    np.savez_compressed(inputs, z=rows.z, y=rows.y, v_old=step.old, v_new=step.new)
    write_atomic(out / "inputs.npz", inputs.getvalue(), mode=0o600)
    _, before = run_slice(content, rows, step.old)
    _, after = run_slice(content, rows, step.new)
    expected = improvement(step.old, step.new, rows)
    if before - after != expected:
        raise StateError(f"ONNX Runtime finds improvement {before - after}, the integers say {expected}")
    return SliceReport(
        file=out / "slice.onnx",
        digest=slice_digest(),
        loss_before=mean_loss(before),
        loss_after=mean_loss(after),
    )


def _campaign_folder(folder: Path, campaign: str | None) -> Path:
    found = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
    if campaign is None and len(found) == 1:
        return folder / found[0]
    name = (campaign or "").removeprefix("0x")
    if name not in found:
        raise ConfigError(
            f"campaign {campaign or '(none given)'} is not one of this node's: "
            f"{', '.join('0x' + entry for entry in found) or 'it has none'}"
        )
    return folder / name
