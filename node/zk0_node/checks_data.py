"""Checks of the base policy and of the recording that it is to learn from, by the code that a round uses."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

from zk0_proofs.errors import DataError, StateError
from zk0_proofs.types import Digest

from .checks import Found, NotAsked, Problem, facts_and_advice
from .checks_subject import Subject
from .data import IMAGE_PREFIX, MIN_HELD_OUT, Recording, Requirements, sample_bytes
from .policies.base import base_digest

OVERLAP_WARNING = 0.05
"""Share of held-out frames that are also trained on from which a node's own proof says too much."""


def look_at_base(subject: Subject) -> Found:
    """Hold the digest of the base policy against the invitation."""
    folder = subject.policy_folder
    found = base_digest(folder)
    invitation = subject.invitation
    if invitation is None:
        return Found(f"0x{found.hex()[:16]}… in {folder}, no invitation to compare it with")
    if found != invitation.base_digest:
        raise Problem(
            f"{folder} has digest 0x{found.hex()[:16]}…, invited to 0x{invitation.base_digest.hex()[:16]}…",
            f"remove {folder} and join again with --invite, without --policy: the right one is then fetched",
            StateError,
        )
    return Found(f"0x{found.hex()[:16]}… as in the invitation, in {folder}")


def look_at_policy(subject: Subject) -> Found:
    """Load the base policy."""
    if subject.lacks_base:
        raise NotAsked("waits for: base policy")
    policy = subject.policy
    count = sum(parameter.numel() for parameter in policy.policy.parameters())
    trained = sum(parameter.numel() for parameter in policy.trainable().values())
    return Found(
        f"{policy.name}, {count / 1e6:.1f} million parameters, {trained / 1e6:.1f} million trained; reads "
        f"{reads(policy.requirements)}"
    )


def reads(needed: Requirements) -> str:
    """Return what a policy reads, in words."""
    cameras = " and ".join(needed.cameras) or "no camera"
    return f"{cameras}, a state of {needed.state_dim}, actions of {needed.action_dim}"


def look_at_dataset(subject: Subject) -> Found:
    """Open the recording as a round does: features, robot, NaN, sizes of images and numbers."""
    recording = _opened(subject)
    cameras = ", ".join(
        f"{camera} ({block.shape[2]} x {block.shape[1]})" for camera, block in recording.images.items()
    )
    others = [
        key
        for key in subject.info.get("features", ())
        if str(key).startswith(IMAGE_PREFIX) and key not in recording.images
    ]
    return Found(
        f"{recording.num_episodes} episodes, {len(recording)} frames at {recording.fps} fps of "
        f"{recording.robot}; cameras {cameras}"
        + (f", not read: {', '.join(others)}" if others else "")
        + "; "
        f"state of {recording.state.shape[1]}, actions of {recording.action.shape[1]}, no NaN"
    )


def _opened(subject: Subject) -> Recording:
    try:
        return subject.recording
    except DataError as error:
        facts, advice = facts_and_advice(str(error))
        wanted = subject.policy.requirements
        otherwise = f"give a recording of {wanted.robot} with {reads(wanted)}"
        raise Problem(facts, advice or otherwise, DataError) from error


def look_at_held_out(subject: Subject) -> Found:
    """Split the recording, which asks for enough distinct held-out frames."""
    recording, split, prints = subject.recording, subject.split, _fingerprints(subject)
    episodes = len(np.unique(recording.episode[split.held_out]))
    distinct = len({prints[position] for position in split.held_out})
    return Found(
        f"{episodes} of {recording.num_episodes} episodes, {distinct} distinct frames "
        f"({MIN_HELD_OUT} needed); {len(split.train)} frames to train on"
    )


def look_at_duplicates(subject: Subject) -> Found:
    """Count frames and episodes that recur, and held-out frames that are trained on too."""
    recording, split, prints = subject.recording, subject.split, _fingerprints(subject)
    frames = len(prints) - len(set(prints))
    episodes = _recurring_episodes(recording, prints)
    trained = {prints[position] for position in split.train}
    shared = sum(prints[position] in trained for position in split.held_out)
    text = f"{frames} of {len(prints)} frames and {episodes} of {recording.num_episodes} episodes recur"
    if shared:
        text += f"; {shared} of {len(split.held_out)} held-out frames are trained on too"
    if episodes or shared > OVERLAP_WARNING * len(split.held_out):
        return Found(
            text, "remove recurring episodes: proofs on frames that were trained on flatter the node"
        )
    return Found(text)


def _recurring_episodes(recording: Recording, prints: list[Digest]) -> int:
    counts = Counter(
        b"".join(prints[position] for position in np.flatnonzero(recording.episode == episode))
        for episode in np.unique(recording.episode)
    )
    return sum(count - 1 for count in counts.values())


def _fingerprints(subject: Subject) -> list[Digest]:
    """Return a digest of what makes each frame distinct, computed once: as the split takes it."""
    kept: list[Digest] | None = subject.notes.get("fingerprints")
    if kept is None:
        kept = [
            Digest(hashlib.blake2b(sample_bytes(samples, 0), digest_size=32).digest())
            for position in range(len(subject.recording))
            for samples in [subject.recording.samples(np.array([position]), 1)]
        ]
        subject.notes["fingerprints"] = kept
    return kept
