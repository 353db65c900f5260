"""EZKL's settings of a read-out circuit: how they are normalised, and what must hold in them.

A wrong setting gives a circuit that still proves and verifies but means something else, so the checks run
when artefacts are built and every time they are loaded (docs/protocol.md, "Circuit").
"""

from __future__ import annotations

import json
from typing import Any

from .circuit import input_sizes
from .errors import ArtifactError
from .readout import Shape

INNER_COLUMNS = 2


def normalise(settings: dict[str, Any], shape: Shape) -> bytes:
    """Return settings as sorted JSON with the time zeroed and the inputs counted once.

    EZKL's counting pass counts the committed inputs as if they were assigned again; with the sum lowered
    the circuit fits 2^14 rows. Too low a count makes setup fail; it cannot weaken the circuit.
    """
    counted = settings["total_assignments"] - sum(input_sizes(shape))
    document = settings | {
        "timestamp": 0,
        "total_assignments": counted,
        "num_rows": -(-counted // INNER_COLUMNS),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def require_settings(settings: dict[str, Any], shape: Shape, ezkl_version: str) -> None:
    """Return if `settings` make the circuit that docs/protocol.md describes.

    Raises:
        ArtifactError: a setting is missing or has another value; the message names the first.
    """
    expected = {
        # EZKL's own Freivalds check leaves the outputs of matrix products unconstrained.
        "run_args.disable_freivalds": True,
        "run_args.input_visibility": "KZGCommit",
        "run_args.output_visibility": "Public",
        "run_args.param_visibility": "Fixed",
        # Scale 0 and no rebase: integers in, integers out.
        "run_args.input_scale": 0,
        "run_args.param_scale": 0,
        "run_args.scale_rebase_multiplier": 100,
        "run_args.rebase_scale": None,
        "model_input_scales": [0] * 5,
        "model_output_scales": [0] * 3,
        "run_args.ignore_range_check_inputs_outputs": True,
        "run_args.num_inner_cols": INNER_COLUMNS,
        "run_args.logrows": shape.logrows,
        # The accepted interval is [lo, lo + 2^k - 9]: only the symmetric choice is exact.
        "run_args.lookup_range": list(shape.row_range),
        "run_args.bounded_log_lookup": False,
        # The range check of every z and y is the only lookup.
        "required_lookups": [{"Tanh": {"scale": 1.0}}],
        "required_range_checks": [],
        "module_sizes.polycommit": list(input_sizes(shape)),
        "model_instance_shapes": [[1], [1], [1]],
        "num_dynamic_lookups": 0,
        "num_shuffles": 0,
        "version": ezkl_version,
        "timestamp": 0,
    }
    for name, value in expected.items():
        found: Any = settings
        for key in name.split("."):
            found = found.get(key, "nothing") if isinstance(found, dict) else "nothing"
        if found != value or type(found) is not type(value):
            raise ArtifactError(
                f"circuit setting {name} is {found!r}, expected {value!r}; the circuit would mean something "
                "else: rebuild the artefacts with the pinned EZKL release"
            )
