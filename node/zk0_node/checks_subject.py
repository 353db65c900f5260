"""What the checks look at: one node with its settings, opened piece by piece and kept between checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts
from zk0_proofs.errors import Zk0Error
from zk0_proofs.files import parse_json
from zk0_proofs.invitation import Invitation

from .config import NodeSettings
from .data import Recording, Split, open_recording, split_episodes
from .joining import Home
from .party import Party

if TYPE_CHECKING:
    from .policies.smolvla import SmolVLA


@dataclass
class Subject:
    """A node that may not have joined yet."""

    settings: NodeSettings
    home: Home
    invitation: Invitation | None = None
    """What pins base policy, circuit and app; None for a node whose settings were written by hand."""
    fetch_base: Callable[[], Path] | None = None
    """Gets the base policy as joining would; None if the settings name it."""
    proves: bool = True
    """Whether a trial proof is wanted."""
    say: Callable[[str], None] = lambda _words: None
    """Told what takes long just now."""

    # What one check measures and another one uses.
    chain_answers: bool = False
    lacks_base: bool = False
    proof_seconds: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def party(self) -> Party:
        """Return the node's key and its view of the ledger."""
        return Party(self.settings)

    @cached_property
    def artifacts(self) -> CircuitArtifacts:
        """Return the circuit, built if it is missing."""
        return load_artifacts(self.settings.cache, self.settings.srs, self.say)

    @cached_property
    def policy_folder(self) -> Path:
        """Return the folder of the base policy."""
        if self.fetch_base is None:
            return Path(self.settings.policy)
        try:
            return self.fetch_base()
        except Zk0Error:
            self.lacks_base = True
            raise

    @cached_property
    def policy(self) -> SmolVLA:
        """Return the base policy, ready for work."""
        import torch

        from .policies.smolvla import load_policy

        torch.set_num_threads(self.settings.threads)
        return load_policy(self.policy_folder)

    @cached_property
    def info(self) -> dict[str, Any]:
        """Return what the data set says of itself before anything is decoded; empty if that is not known."""
        try:
            found = parse_json((Path(self.settings.data) / "meta" / "info.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def recording(self) -> Recording:
        """Return the data set, decoded as for a round."""
        cache = self.settings.cache / "recordings"
        return open_recording(self.settings.data, self.policy.requirements, cache)

    @cached_property
    def split(self) -> Split:
        """Return the frames to learn from and those held out."""
        return split_episodes(self.recording, self.settings.held_out_fraction)
