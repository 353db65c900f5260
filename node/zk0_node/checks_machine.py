"""Checks of the machine: processor or accelerator, memory and disk."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import psutil

from zk0_proofs.errors import StateError
from zk0_proofs.workers import available_cores

from .checks import Found, Problem
from .checks_home import nearest_existing
from .checks_subject import Subject
from .needs import cache_needed, home_needed, memory_needed

_GROUP = Path("/sys/fs/cgroup")


def look_at_device(subject: Subject) -> Found:
    """Say where the policy computes."""
    import torch

    device = subject.policy.policy.config.device
    threads, cores = subject.settings.threads, available_cores()
    processor = f"CPU, {threads} of {cores} cores"
    if device != "cpu":
        free, total = torch.cuda.mem_get_info()
        return Found(f"CUDA, {torch.cuda.get_device_name()}, {_gb(free)} of {_gb(total)} free; {processor}")
    if torch.cuda.is_available():
        return Found(f"{processor}; the policy does not ask for the {torch.cuda.get_device_name()} here")
    if threads > cores:
        return Found(processor, f"set `threads` to at most {cores}: more wait for each other")
    return Found(processor)


def look_at_memory(subject: Subject) -> Found:
    """Hold free memory against what training and proving take, before anything large is read."""
    needed = memory_needed(subject.policy, subject.info)
    free = _free_memory()
    unknown = "" if subject.info else ", without the recording, whose size is not known yet"
    text = f"{_gb(free)} free, about {_gb(needed.host)} needed{unknown}"
    if free < needed.host:
        raise Problem(text, "end other programs, add memory, or use a smaller recording", StateError)
    if not needed.device:
        return Found(text)
    import torch

    on_device = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    text += f"; of the accelerator {_gb(on_device)} free, about {_gb(needed.device)} needed"
    if on_device < needed.device:
        raise Problem(text, "end other programs on the accelerator, or use a smaller policy", StateError)
    return Found(text)


def _free_memory() -> int:
    """Return what this process has and could still get, also inside a container with a limit."""
    own = psutil.Process().memory_info().rss
    free: int = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no such limit
        limit = int((_GROUP / "memory.max").read_text())
        free = min(free, limit - int((_GROUP / "memory.current").read_text()))
    return max(0, free) + own


def look_at_disk(subject: Subject) -> Found:
    """Hold free disk space against what a campaign writes."""
    settings = subject.settings
    wanted = [
        ("home", settings.home, home_needed(subject.policy)),
        ("cache", settings.cache, cache_needed(subject.policy, subject.info)),
    ]
    places = [(name, nearest_existing(path), needed) for name, path, needed in wanted]
    if len({os.stat(path).st_dev for _, path, _ in places}) == 1:
        places = [("home and cache", places[0][1], sum(needed for _, _, needed in places))]
    parts, short = [], []
    for name, path, needed in places:
        free = shutil.disk_usage(path).free
        parts.append(f"{name}: {_gb(free)} free, about {_gb(needed)} needed")
        if free < needed:
            short.append(str(path))
    if short:
        raise Problem(
            "; ".join(parts),
            f"free space on the file system of {' and '.join(short)}, or set `home` and `cache` to others",
            StateError,
        )
    return Found("; ".join(parts))


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
