"""The connection to a chain: timeouts, retries of reads, and every failure as one of our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError as TransportError
from web3 import HTTPProvider, Web3
from web3.exceptions import BadFunctionCallOutput, ContractLogicError, TimeExhausted, Web3RPCError
from web3.providers.rpc.utils import ExceptionRetryConfiguration

from zk0_proofs.errors import ChainUnreachable, LedgerError, WrongChain, Zk0Error
from zk0_proofs.types import Digest

from .reverts import RevertDecoder

TIMEOUT_S = 20.0
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
# Waits 0.25, 0.5, 1 and 2 s between tries; web3 repeats reads only, never a send.
_TRIES = 5
_FIRST_WAIT_S = 0.25


def connect(
    url: str,
    chain_id: int | None = None,
    ca_file: Path | None = None,
    *,
    tries: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Web3:
    """Return a connection to the chain at `url`, checked to be `chain_id` if one is given.

    With `ca_file` the endpoint's certificate has to be signed by that authority, and by no other. A call is
    tried `tries` times, with growing pauses.

    Raises:
        ChainUnreachable: no answer.
        WrongChain: the endpoint serves another chain.
    """
    retries = ExceptionRetryConfiguration(
        errors=(requests.ConnectionError, requests.Timeout, requests.HTTPError, TransportError),
        retries=tries or _TRIES,
        backoff_factor=_FIRST_WAIT_S,
    )
    provider = HTTPProvider(
        url,
        request_kwargs={"timeout": timeout_s},
        exception_retry_configuration=retries,
        session=_sized_session(ca_file),
    )
    # A revert may ask the caller to fetch any URL (EIP-3668): nothing here needs that.
    provider.global_ccip_read_enabled = False
    web3 = Web3(provider)
    with chain_errors("connect", url):
        found = web3.eth.chain_id
    if chain_id is not None and found != chain_id:
        raise WrongChain(
            f"{without_secrets(url)} serves chain {found}, expected {chain_id}; set ZK0_LEDGER_RPC_URL or "
            "ZK0_LEDGER_CHAIN_ID so that they agree"
        )
    return web3


def _sized_session(ca_file: Path | None) -> requests.Session:
    """Return a session that reads no more of an answer than any that a ledger has use for."""
    session = requests.Session()
    if ca_file is not None:
        session.verify = str(ca_file)
        session.trust_env = False  # REQUESTS_CA_BUNDLE would win over the pinned authority
    session.hooks["response"].append(_read_sized)
    return session


def _read_sized(response: requests.Response, **_options: object) -> None:
    content = response.raw.read(ANSWER_LIMIT_BYTES + 1, decode_content=True)
    if len(content) > ANSWER_LIMIT_BYTES:
        response.close()
        raise LedgerError(
            f"{without_secrets(response.url)} answers with more than {ANSWER_LIMIT_BYTES} bytes; use another "
            "endpoint"
        )
    response._content = content  # as `Response.content` keeps it, which knows no limit


@contextmanager
def chain_errors(action: str, url: str, decoder: RevertDecoder | None = None) -> Iterator[None]:
    """Turn what web3 and its transport raise during `action` into our errors.

    Raises:
        ChainUnreachable: no answer in time.
        TransactionReverted: the contract refused.
        WrongChain: there is no ledger at the address.
        LedgerError: the endpoint answered with an error, or with something else than was asked for.
    """
    try:
        yield
    except Zk0Error:
        raise
    except ContractLogicError as error:
        raise (decoder or RevertDecoder([])).decode(action, revert_data(error)) from error
    except BadFunctionCallOutput as error:
        raise WrongChain(
            f"{action}: no ContributionLedger answers at the configured address; check ZK0_LEDGER_ADDRESS "
            "and the chain, or deploy one"
        ) from error
    except (requests.RequestException, TransportError, TimeExhausted, ConnectionError) as error:
        raise ChainUnreachable(
            f"{action}: no answer from {without_secrets(url)} ({type(error).__name__}); "
            "check that it runs and is the one meant (ZK0_LEDGER_RPC_URL; for a node its aggregator)"
        ) from error
    except Web3RPCError as error:
        raise LedgerError(f"{action}: {without_secrets(url)} answered with an error: {error}") from error
    except Exception as error:  # web3 does not check an answer's form: a wrong one fails in it in any way
        raise LedgerError(
            f"{action}: {without_secrets(url)} answered with something else than was asked for "
            f"({type(error).__name__}: {str(error)[:200]}); use another endpoint"
        ) from error


def hash_of(value: bytes) -> Digest:
    """Return a hash that an endpoint sent; to be asked inside `chain_errors`.

    Raises:
        LedgerError: it is none.
    """
    if len(value) != 32:
        raise LedgerError(
            f"the endpoint sent a hash of {len(value)} bytes, expected 32; use another endpoint"
        )
    return Digest(bytes(value))


def revert_data(error: ContractLogicError) -> bytes:
    """Return the raw revert data that an endpoint sent with `error`, empty if none."""
    data = error.data
    if isinstance(data, dict):
        data = data.get("data", "")
    try:
        return bytes.fromhex(str(data or "").removeprefix("0x"))
    except ValueError:
        return b""


def without_secrets(url: str) -> str:
    """Return scheme, host and port of `url`: paths and user parts often hold an API key."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or '?'}{port}"
