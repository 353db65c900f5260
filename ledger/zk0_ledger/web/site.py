"""What a page is made from: one ledger's state, its manifests, its verdicts and its videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .follower import Follower, Opener
from .published import Publications, Published
from .verifications import Means, Verifications


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The open page of one ledger; see `open_site`."""

    home: Path
    follower: Follower
    verifications: Verifications
    media: Path | None = None
    """Folder with `<campaign id in 64 hex digits>/round-<n>.mp4`: a rollout with the model after a round."""
    publications: Publications = field(default_factory=Publications)

    def published(self, digest: str | None) -> Published:
        """Return what the manifest of `digest` (0x…) says."""
        return self.publications.of(self.home, digest)

    def video(self, campaign: str, number: int) -> Path | None:
        """Return the video of a round, if there is one."""
        if self.media is None:
            return None
        path = self.media / campaign.removeprefix("0x") / f"round-{number}.mp4"
        return path if path.is_file() else None


@contextmanager
def open_site(
    opener: Opener, home: Path, *, media: Path | None = None, means: Means | None = None
) -> Iterator[Site]:
    """Follow a ledger whose files are in `home`, and leave nothing behind on exit.

    Args:
        opener: opens the ledger, in a thread of the site's own; again whenever it was lost.
        home: the ledger's folder, with manifests and verdicts.
        media: folder of videos; see `Site.media`.
        means: what audits need; by default the files beside the ledger.
    """
    with Follower(opener) as follower, Verifications(means or Means()) as verifications:
        yield Site(home=home, follower=follower, verifications=verifications, media=media)
