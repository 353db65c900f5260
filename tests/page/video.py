"""A short video that a browser can play, in place of a rollout."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

_SIZE, _FRAMES, _RATE = 160, 20, 10


def write_video(path: Path) -> None:
    """Write two seconds of a moving square."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=_RATE)
        stream.width, stream.height, stream.pix_fmt = _SIZE, _SIZE, "yuv420p"
        for number in range(_FRAMES):
            picture = np.full((_SIZE, _SIZE, 3), (24, 32, 30), dtype=np.uint8)
            left = 10 + number * 5
            picture[60:100, left : left + 40] = (95, 212, 196)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
