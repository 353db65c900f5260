"""The aggregator's own certificate authority, and the certificate by which nodes know its servers.

The authority never signs anything else, and its certificate travels in the invitation: a node trusts it for
this aggregator alone, and no public authority can vouch for somebody in its place.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zk0_proofs.errors import ConfigError, StateError
from zk0_proofs.files import read_limited, write_atomic

AUTHORITY_DAYS = 3650
SERVER_DAYS = 365
RENEW_DAYS = SERVER_DAYS - 30
"""A server certificate that ends within this time is made anew at the next start; nodes notice nothing."""

_LIMIT_BYTES = 16 * 1024
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_OWN_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of PEM files in one folder; keys have mode 600."""

    folder: Path

    @property
    def authority(self) -> Path:
        """Return the authority's certificate, which nodes are given."""
        return self.folder / "ca.crt"

    @property
    def authority_key(self) -> Path:
        """Return the authority's key: whoever has it can pass for this aggregator."""
        return self.folder / "ca.key"

    @property
    def server(self) -> Path:
        """Return the servers' certificate."""
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        """Return the servers' key."""
        return self.folder / "server.key"


def prepare_certificates(folder: Path, names: Sequence[str]) -> Certificates:
    """Return the certificates in `folder`, made the first time and whenever `names` or time ask for it.

    Args:
        folder: where they are kept.
        names: host names and IP addresses by which nodes reach this machine.

    Raises:
        ConfigError: a name is none.
        StateError: a file is damaged, or cannot be written.
    """
    found = Certificates(folder)
    wanted = [_general_name(name) for name in dict.fromkeys([*_OWN_NAMES, *names])]
    if not found.authority.exists():
        _make_authority(found)
    if not _serves(found, wanted):
        _make_server(found, wanted)
    return found


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if not _HOST_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no host name and no IP address; check --name") from None
        return x509.DNSName(name)


def _serves(found: Certificates, wanted: list[x509.GeneralName]) -> bool:
    """Return whether the server's certificate fits key and authority, has all names and enough time left."""
    if not (found.server.exists() and found.server_key.exists()):
        return False
    certificate = _read_certificate(found.server)
    if certificate.public_key() != _read_key(found.server_key).public_key():
        return False  # a crash came between the two
    try:
        certificate.verify_directly_issued_by(_read_certificate(found.authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return set(wanted) <= set(names) and left > datetime.timedelta(days=RENEW_DAYS)


def _make_authority(found: Certificates) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    name = _name("zk0 aggregator authority")
    builder = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    # The key first: without it the certificate would look complete after a crash and sign nothing.
    write_atomic(found.authority_key, _key_bytes(key), mode=0o600)
    write_atomic(found.authority, _pem(builder.sign(key, hashes.SHA384())))


def _make_server(found: Certificates, names: list[x509.GeneralName]) -> None:
    authority, authority_key = _read_certificate(found.authority), _read_key(found.authority_key)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_name("zk0 aggregator"), authority.subject, key.public_key(), SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    write_atomic(found.server_key, _key_bytes(key), mode=0o600)
    write_atomic(found.server, _pem(builder.sign(authority_key, hashes.SHA384())))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # An hour back, for nodes whose clock is behind.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_limited(path, _LIMIT_BYTES))
    except ValueError as error:
        raise StateError(f"{path} is no certificate: {error}; restore it from a backup") from error


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_limited(path, _LIMIT_BYTES), None)
    except (ValueError, TypeError) as error:
        raise StateError(f"{path} is no key: {error}; restore it from a backup") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StateError(f"{path} is no key of ours; restore it from a backup")
    return key
