"""All checks of a node, in the order in which they are shown."""

from __future__ import annotations

from .checks import REPORT, Check
from .checks_chain import (
    look_at_admission,
    look_at_artifacts,
    look_at_campaigns,
    look_at_chain,
    look_at_circuit,
    look_at_srs,
)
from .checks_data import (
    look_at_base,
    look_at_dataset,
    look_at_duplicates,
    look_at_held_out,
    look_at_policy,
)
from .checks_home import look_at_app, look_at_home, look_at_keystore
from .checks_machine import look_at_device, look_at_disk, look_at_memory
from .checks_network import look_at_clock, look_at_manifests, look_at_superlink
from .checks_proof import look_at_pace, look_at_proof
from .checks_subject import Subject

_OF_MEMBERS = {"dataset", "held-out rows", "duplicates", "admission", "campaign", "trial proof", "a round"}
"""An auditor has no data, is not admitted and proves nothing."""
_ASK_AGAIN = "run it again; if it stays, ask the aggregator's operator"


def plan(subject: Subject) -> list[Check[Subject]]:
    """Return what to look at."""
    checks = [*_own(), *_learning(), *_ledger(), *_servers(), *_trials()]
    if subject.settings.role == "auditor":
        return [check for check in checks if check.name not in _OF_MEMBERS]
    return checks


def _own() -> list[Check[Subject]]:
    return [
        Check(name="app", look=look_at_app, remedy="install zk0 again"),
        Check(name="home", look=look_at_home, remedy="choose another folder with --home"),
        Check(name="keystore", look=look_at_keystore, remedy="restore it from a backup, or make another key"),
    ]


def _learning() -> list[Check[Subject]]:
    return [
        Check(
            name="base policy",
            look=look_at_base,
            remedy="fetch it again: join with --invite, without --policy",
        ),
        Check(
            name="policy", look=look_at_policy, remedy="fetch it again: join with --invite, without --policy"
        ),
        Check(name="device", look=look_at_device, needs=("policy",), remedy=REPORT),
        Check(name="memory", look=look_at_memory, needs=("policy",), remedy=REPORT),
        Check(name="disk", look=look_at_disk, needs=("policy",), remedy=REPORT),
        Check(
            name="dataset",
            look=look_at_dataset,
            needs=("policy", "memory"),
            remedy="record the data set again",
        ),
        Check(name="held-out rows", look=look_at_held_out, needs=("dataset",), remedy="record more episodes"),
        Check(name="duplicates", look=look_at_duplicates, needs=("held-out rows",), remedy=REPORT),
    ]


def _ledger() -> list[Check[Subject]]:
    return [
        Check(name="artefacts", look=look_at_artifacts, remedy="remove the cache's folder circuits"),
        Check(name="SRS", look=look_at_srs, needs=("artefacts",), remedy=REPORT),
        Check(name="chain", look=look_at_chain, remedy=_ASK_AGAIN),
        Check(name="circuit", look=look_at_circuit, needs=("artefacts", "chain"), remedy=_ASK_AGAIN),
        Check(name="admission", look=look_at_admission, needs=("keystore", "chain"), remedy=_ASK_AGAIN),
        Check(name="campaign", look=look_at_campaigns, needs=("keystore", "chain"), remedy=_ASK_AGAIN),
    ]


def _servers() -> list[Check[Subject]]:
    return [
        Check(name="SuperLink", look=look_at_superlink, remedy=_ASK_AGAIN),
        Check(name="manifests", look=look_at_manifests, remedy=_ASK_AGAIN),
        Check(name="clock", look=look_at_clock, remedy=_ASK_AGAIN),
    ]


def _trials() -> list[Check[Subject]]:
    return [
        Check(
            name="trial proof",
            look=look_at_proof,
            needs=("artefacts", "SRS"),
            remedy="run it again with less load on the machine",
        ),
        Check(name="a round", look=look_at_pace, needs=("held-out rows",), remedy=REPORT),
    ]
