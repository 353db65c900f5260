"""Results of finished steps on disk, so that a run that died goes on where it was and repeats nothing.

A step's name is a path such as `campaign-2/round-1/R2-updates`. Its result is stored before anything
depends on it; whoever runs the step again gets the stored result instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from zk0_proofs.digest import canonical_json
from zk0_proofs.encoding import Document, first_problem
from zk0_proofs.errors import StateError
from zk0_proofs.files import parse_json, read_limited, write_atomic
from zk0_proofs.messages import FloatArrays, pack_arrays, unpack_arrays

STEP_LIMIT_BYTES = 1024 * 1024 * 1024

_Kind = TypeVar("_Kind", bound=Document)


class Arrivals(Generic[_Kind]):
    """What parties handed in during a step, in the order of arrival; each is on disk before it counts.

    A run that dies in the middle of a step asks only those again that had not answered, and never loses
    what it acknowledged.
    """

    def __init__(self, folder: Path, kind: type[_Kind]) -> None:
        self._folder = folder
        self._kind = kind
        paths = sorted(folder.glob("*.json"))
        if [path.name for path in paths] != [_name(position) for position in range(len(paths))]:
            raise StateError(f"{folder} has gaps: something that was acknowledged is missing; restore it")
        self.documents: list[_Kind] = [self._read(path) for path in paths]

    def add(self, document: _Kind) -> None:
        """Store the next document."""
        path = self._folder / _name(len(self.documents))
        write_atomic(path, canonical_json(document.model_dump()))
        self.documents.append(document)

    def _read(self, path: Path) -> _Kind:
        try:
            return self._kind.model_validate_json(read_limited(path, STEP_LIMIT_BYTES))
        except ValidationError as error:
            raise StateError(
                f"{path} is no {self._kind.__name__}: {first_problem(error)}; it was acknowledged: restore it"
            ) from error


def _name(position: int) -> str:
    return f"{position:05}.json"


class Journal:
    """The finished steps of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def value(self, step: str, compute: Callable[[], Any]) -> Any:
        """Return the JSON value of `step`, computing and storing it the first time."""
        path = self.folder / f"{step}.json"
        if not path.exists():
            write_atomic(path, canonical_json(compute()))
        try:
            return parse_json(read_limited(path, STEP_LIMIT_BYTES))
        except ValueError as error:
            raise StateError(f"{path} is damaged: {error}; remove it to repeat the step") from error

    def document(self, step: str, kind: type[_Kind], compute: Callable[[], _Kind]) -> _Kind:
        """Return the document of `step`, computing and storing it the first time."""
        stored = self.value(step, lambda: compute().model_dump())
        try:
            return kind.model_validate(stored)
        except ValidationError as error:
            raise StateError(
                f"step {step} in {self.folder} is no {kind.__name__}: {first_problem(error)}"
            ) from error

    def documents(self, step: str, kind: type[_Kind], compute: Callable[[], list[_Kind]]) -> list[_Kind]:
        """Return the list of documents of `step`, computing and storing it the first time."""
        stored = self.value(step, lambda: [document.model_dump() for document in compute()])
        try:
            return TypeAdapter(list[kind]).validate_python(stored)  # type: ignore[valid-type]
        except ValidationError as error:
            raise StateError(
                f"step {step} in {self.folder} is no list of {kind.__name__}: {first_problem(error)}"
            ) from error

    def arrays(self, step: str, compute: Callable[[], FloatArrays]) -> FloatArrays:
        """Return the named float32 arrays of `step`, computing and storing them the first time."""
        path = self.folder / f"{step}.safetensors"
        if not path.exists():
            write_atomic(path, pack_arrays(compute()))
        return unpack_arrays(read_limited(path, STEP_LIMIT_BYTES), STEP_LIMIT_BYTES)

    def arrivals(self, step: str, kind: type[_Kind]) -> Arrivals[_Kind]:
        """Return what came in during `step` so far."""
        return Arrivals(self.folder / step, kind)

    def has(self, step: str) -> bool:
        """Return whether `step` is finished."""
        return any((self.folder / f"{step}{suffix}").exists() for suffix in (".json", ".safetensors"))
