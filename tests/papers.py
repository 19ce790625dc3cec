"""An authority and the papers of a SuperLink, as role flower makes them, for tests here."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedrnn.superlink_door import Papers

HOST = "127.0.0.1"


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def signed(subject: str, key, issuer: str, by, authority: bool) -> bytes:
    """A certificate for two days; of a server, for this machine."""
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        address = x509.IPAddress(ipaddress.ip_address(HOST))
        made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def private(key, format_: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, format_, serialization.NoEncryption())


def make_papers(folder: Path) -> Papers:
    """Make both certificates and the SuperLink's key in a folder."""
    made = Papers(*(folder / name for name in ("superlink.crt", "superlink.key", "authority.crt")))
    authority, server = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    made.authority.write_bytes(signed("lab", authority, "lab", authority, True))
    made.certificate.write_bytes(signed("superlink", server, "lab", authority, False))
    made.key.write_bytes(private(server, serialization.PrivateFormat.PKCS8))
    return made
