"""The one error tree of zk0. A message says what was found, what was expected and what to do.

Zk0Error                     everything an operator may see; `exit_code` is the process's exit code
├── ConfigError              a setting is missing, contradictory or out of range
├── DataError                a dataset cannot serve: foreign, empty, wrong dimensions, NaN
├── StateError               files of our own are missing, damaged or from another campaign
│   └── SuperLinkUnreachable no answer from the SuperLink's Control API
├── ArtifactError            circuit artefacts are missing or differ from their pinned digests
├── IdentityError            a keystore is missing, unreadable or does not open
├── ProverError              no proof could be made
│   ├── WitnessOutOfRange    an integer left the range that the circuit accepts
│   └── ProverTimeout        the prover did not end in time
├── WireError                bytes from another party have the wrong shape or size
├── ProofRejected            a proof or its binding does not hold (an outcome, not a fault)
├── LedgerError              the chain or the contract refused, or cannot be reached
│   ├── ChainUnreachable     no answer from the RPC endpoint
│   ├── WrongChain           another chain id or no contract at the address
│   └── TransactionReverted  the contract refused a transaction, with its decoded error
└── AuditFailed              a published round does not follow from its evidence
"""

from __future__ import annotations


class Zk0Error(Exception):
    """Base of all errors that zk0 raises on purpose."""

    exit_code = 1


class ConfigError(Zk0Error):
    """A setting is missing, contradictory or out of range."""

    exit_code = 2


class DataError(Zk0Error):
    """A dataset cannot serve a node."""

    exit_code = 3


class StateError(Zk0Error):
    """A file of our own is missing, damaged or belongs to something else."""

    exit_code = 4


class SuperLinkUnreachable(StateError):
    """The SuperLink's Control API does not answer."""


class ArtifactError(Zk0Error):
    """Circuit artefacts are missing or differ from their pinned digests."""

    exit_code = 5


class IdentityError(Zk0Error):
    """A keystore is missing, unreadable or does not open."""

    exit_code = 6


class ProverError(Zk0Error):
    """No proof could be made."""

    exit_code = 7


class WitnessOutOfRange(ProverError):
    """An integer left the range that the circuit accepts."""


class ProverTimeout(ProverError):
    """The prover did not end in time."""


class WireError(Zk0Error):
    """Bytes from another party have the wrong shape or size."""

    exit_code = 8


class ProofRejected(Zk0Error):
    """A proof, or what it is bound to, does not hold.

    The name has no `Error` suffix because it is an outcome that every verifier expects.
    `check` is the number of the failed check in docs/protocol.md, "What a verifier checks".
    """

    exit_code = 9

    def __init__(self, check: int, message: str) -> None:
        super().__init__(message)
        self.check = check


class LedgerError(Zk0Error):
    """The chain or the contract refused, or cannot be reached."""

    exit_code = 10


class ChainUnreachable(LedgerError):
    """The RPC endpoint does not answer."""


class WrongChain(LedgerError):
    """Another chain id than configured, or no ledger at the configured address."""


class TransactionReverted(LedgerError):
    """The contract refused a transaction."""

    def __init__(self, message: str, *, error: str = "", arguments: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.error = error
        self.arguments = arguments


class AuditFailed(Zk0Error):
    """A published round does not follow from its evidence."""

    exit_code = 11
