"""A target that is meant to fail, to show that both engines notice; it is in no campaign."""

from __future__ import annotations

import json

from tests.fuzz.harness import Target
from tests.fuzz.json_mutations import mutate_json


def _read(content: bytes) -> None:
    """Read a message without any check, as no parser of the product may."""
    assert int(json.loads(content)["deadline"]) >= 0, "negative"


TARGETS = [Target(name="broken", run=_read, seeds=lambda: [b'{"deadline": 1}'], mutate=mutate_json)]
