"""The SuperLink's papers, made on this machine by role flower without any node."""

from __future__ import annotations

import datetime
from pathlib import Path

from cluster import ROOT, ansible_playbook, must
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

PLAY = """
- hosts: localhost
  gather_facts: false
  vars: {flower_papers: "%s", flower_host: 192.0.2.1, flower_is_address: true}
  tasks:
    - ansible.builtin.include_tasks: "%s"
"""


def make(folder: Path) -> int:
    """Run the role's file; return how much it has changed."""
    play = folder.parent / "play.yml"
    play.write_text(PLAY % (folder, ROOT / "roles/flower/tasks/papers.yml"))
    run = must(ansible_playbook("-i", "localhost,", "-c", "local", str(play)))
    return run.changed["localhost"]


def days(folder: Path, name: str) -> int:
    told = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
    return (told.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days


def shorten(folder: Path, name: str, days: int) -> None:
    """Give a certificate another end, by the same authority's key."""
    file = folder / f"{name}.crt"
    old = x509.load_pem_x509_certificate(file.read_bytes())
    key = serialization.load_pem_private_key((folder / "authority.key").read_bytes(), None)
    made = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(old.serial_number)
        .not_valid_before(datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=900))
        .not_valid_after(datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days))
    )
    for extension in old.extensions:
        made = made.add_extension(extension.value, extension.critical)
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def test_certificates_are_renewed_in_their_last_days_and_not_before(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    assert make(folder) > 0
    assert (days(folder, "authority") > 3640, days(folder, "superlink") > 820) == (True, True)
    shorten(folder, "superlink", 100)
    assert make(folder) == 0 and days(folder, "superlink") < 101
    shorten(folder, "superlink", 30)
    assert make(folder) == 1 and days(folder, "superlink") > 820
    shorten(folder, "superlink", -1)
    shorten(folder, "authority", 30)
    assert make(folder) == 2 and days(folder, "authority") > 3640
    signed = x509.load_pem_x509_certificate((folder / "superlink.crt").read_bytes())
    signed.verify_directly_issued_by(
        x509.load_pem_x509_certificate((folder / "authority.crt").read_bytes())
    )
    assert make(folder) == 0
