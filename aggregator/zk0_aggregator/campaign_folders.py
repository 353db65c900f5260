"""The campaigns that an aggregator was asked to run: one folder each, worked off in the order of asking.

`plan.json` says what was asked for, `state/` what was done, `finished` or `failed.json` how it ended. Whoever
leads a campaign holds its lock, so that no two processes ever do.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zk0_proofs.encoding import first_problem
from zk0_proofs.errors import StateError
from zk0_proofs.files import parse_json, read_limited, write_atomic
from zk0_proofs.locks import claimed, holder

from .progress import Display
from .run import Plan
from .runs import Run

_PLAN = TypeAdapter(Plan)
_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CampaignFolder:
    """One request for a campaign."""

    folder: Path

    @property
    def name(self) -> str:
        """Return the folder's name, by which commands and Flower's runs know the campaign."""
        return self.folder.name

    @property
    def plan(self) -> Plan:
        """Return what was asked for.

        Raises:
            StateError: the file is damaged.
        """
        path = self.folder / "plan.json"
        try:
            return _PLAN.validate_json(read_limited(path, _LIMIT_BYTES))
        except ValidationError as error:
            raise StateError(
                f"{path} is no plan: {first_problem(error)}; move {self.folder} away and ask again"
            ) from error

    @property
    def is_finished(self) -> bool:
        """Return whether all rounds are settled."""
        return (self.folder / "finished").exists()

    @property
    def failure(self) -> str | None:
        """Return why the campaign was given up, None if it was not."""
        path = self.folder / "failed.json"
        if not path.exists():
            return None
        try:
            return str(parse_json(read_limited(path, _LIMIT_BYTES))["message"])
        except StateError:
            return None if not path.exists() else "for a reason that cannot be read"  # taken up just now
        except (ValueError, KeyError, TypeError):
            return "for a reason that cannot be read"

    @property
    def is_open(self) -> bool:
        """Return whether there is something left to do."""
        return not self.is_finished and self.failure is None

    @property
    def status(self) -> dict[str, Any]:
        """Return what the process that leads it said last: phase, since when, refusals."""
        path = self.folder / "status.json"
        try:
            found = parse_json(read_limited(path, _LIMIT_BYTES)) if path.exists() else {}
        except ValueError:
            found = {}
        return found if isinstance(found, dict) else {}

    @property
    def leader(self) -> int | None:
        """Return the process that leads the campaign now, None if nobody does."""
        return holder(self.folder / "lock")

    @contextmanager
    def led(self) -> Iterator[Run]:
        """Be the process that leads the campaign.

        Raises:
            StateError: another one does.
        """
        refusal = f"another process leads {self.name} already; let it, or end it first"
        with claimed(self.folder / "lock", refusal):
            yield Run(self.folder, (self.folder / "state").exists())

    def fail(self, message: str) -> None:
        """Give the campaign up; `resume` takes it up again."""
        write_atomic(self.folder / "failed.json", json.dumps({"message": message}).encode())

    def resume(self) -> None:
        """Take up a campaign that was given up."""
        (self.folder / "failed.json").unlink(missing_ok=True)


@dataclass(slots=True)
class StatusDisplay(Display):
    """A display that also writes what happens to the campaign's folder, for `status` and other programs."""

    folder: Path = field(default=Path())

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Any]:
        """Show a phase, and write down that it began and ended."""
        started = datetime.now(UTC)
        self._write({"phase": name, "parties": total, "since": _timestamp(started)})
        with Display.phase(self, name, total) as step:
            yield step
        self._write({"phase": None, "last": name, "since": _timestamp(datetime.now(UTC))})

    def _write(self, document: dict[str, Any]) -> None:
        document["done"] = [asdict(phase) for phase in self.phases]
        with contextlib.suppress(StateError):  # a full disk is told by what must be written
            write_atomic(self.folder / "status.json", json.dumps(document).encode())


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def arrays_folder(home: Path) -> Path:
    """Return where the published arrays of all campaigns are kept, by their digests."""
    return home / "arrays"


class CampaignFolders:
    """All campaigns of an aggregator."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / "campaigns"

    def ask_for(self, plan: Plan) -> CampaignFolder:
        """Return a new campaign's folder."""
        folder = self._new_folder()
        # The random part keeps the outbox keys of two campaigns apart on one ledger.
        marker = {"id": f"{folder.name}-{secrets.token_hex(4)}"}
        write_atomic(folder / "run.json", json.dumps(marker).encode())
        arrays_folder(self._home).mkdir(exist_ok=True)
        (folder / "arrays").symlink_to(Path("..") / ".." / arrays_folder(self._home).name)
        # The last file makes it a campaign: a crash before it leaves nothing to lead.
        write_atomic(folder / "plan.json", _PLAN.dump_json(plan, indent=2))
        return CampaignFolder(folder)

    def _new_folder(self) -> Path:
        """Return a folder that no other command has at the same moment."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        self._folder.mkdir(parents=True, exist_ok=True)
        names = itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2)))
        while True:
            folder = self._folder / next(names)
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder

    def all(self) -> list[CampaignFolder]:
        """Return the campaigns, the oldest first."""
        return [CampaignFolder(path.parent) for path in sorted(self._folder.glob("*/plan.json"))]

    def named(self, name: str) -> CampaignFolder:
        """Return the campaign of that name.

        Raises:
            StateError: there is none.
        """
        found = next((campaign for campaign in self.all() if campaign.name == name), None)
        if found is None:
            known = ", ".join(campaign.name for campaign in self.all()[-5:]) or "none"
            raise StateError(f"there is no campaign {name!r}; the last ones are: {known}")
        return found

    def next_open(self) -> CampaignFolder | None:
        """Return the oldest campaign with something left to do."""
        return next((campaign for campaign in self.all() if campaign.is_open), None)
