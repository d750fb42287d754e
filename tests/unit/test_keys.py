"""Key files: made, completed, imported, checked; and never overwritten."""

from __future__ import annotations

import datetime as dt
import os
import stat
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from nearfs import keys
from nearfs.errors import Corrupt, InvalidInput, NearfsError, NotFound, Unsupported, Untrusted

if TYPE_CHECKING:
    from pathlib import Path

FQRN = "lab.example.org"
NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> keys.KeyFiles:
    return keys.create_keys(FQRN, tmp_path_factory.mktemp("keys") / "new", now=NOW)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_files_have_names_and_modes(made: keys.KeyFiles) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.master.parent.iterdir()}
    assert modes == {f"{FQRN}.masterkey": 0o400, f"{FQRN}.pub": 0o444, f"{FQRN}.key": 0o400, f"{FQRN}.crt": 0o444}


def test_pairs_belong_together_and_have_2048_bits(made: keys.KeyFiles) -> None:
    master = form.load_pem_private_key(made.master.read_bytes(), None)
    public = form.load_pem_public_key(made.public.read_bytes())
    signing = form.load_pem_private_key(made.key.read_bytes(), None)
    assert isinstance(master, rsa.RSAPrivateKey)
    assert isinstance(signing, rsa.RSAPrivateKey)
    assert (master.key_size, signing.key_size) == (2048, 2048)
    assert master.public_key() == public
    assert made.public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert signing.public_key() != public


def test_certificate_is_self_signed_for_a_year(made: keys.KeyFiles) -> None:
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    certificate.verify_directly_issued_by(certificate)
    name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert name == f"{FQRN} CernVM-FS Release Managers"
    assert certificate.not_valid_before_utc == NOW
    assert certificate.not_valid_after_utc - NOW == dt.timedelta(days=365)


@pytest.mark.parametrize(
    ("fqrn", "start"),
    [
        ("a" * 27 + ".ch", "a" * 27 + ".ch CernVM-FS"),
        ("a" * 28 + ".ch", "a" * 28 + ".c[...] CernVM-FS"),
        ("a" * 57 + ".ch", "a" * 30 + "[...] CernVM-FS"),
    ],
)
def test_long_names_are_cut_in_the_certificate(fqrn: str, start: str) -> None:
    assert keys.certificate_common_name(fqrn).startswith(start)
    assert len(keys.certificate_common_name(fqrn)) <= 64


def test_second_run_keeps_and_completes(made: keys.KeyFiles, tmp_path: Path) -> None:
    files = keys.import_keys(FQRN, made.master.parent, tmp_path)
    before = contents(tmp_path)
    files.public.unlink()
    files.certificate.unlink()
    keys.create_keys(FQRN, tmp_path, now=NOW)
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if not name.endswith(".crt"))


@pytest.mark.parametrize("lost", ["masterkey", "key"])
def test_public_part_without_private_one_is_refused(made: keys.KeyFiles, tmp_path: Path, lost: str) -> None:
    keys.import_keys(FQRN, made.master.parent, tmp_path)
    (tmp_path / f"{FQRN}.{lost}").unlink()
    before = contents(tmp_path)
    with pytest.raises(InvalidInput, match=f"{FQRN}.{lost} that belongs to it"):
        keys.create_keys(FQRN, tmp_path, now=NOW)
    assert contents(tmp_path) == before


def test_foreign_public_key_is_found_out(made: keys.KeyFiles, tmp_path: Path) -> None:
    files = keys.import_keys(FQRN, made.master.parent, tmp_path)
    files.public.unlink()
    files.public.write_bytes(keys.public_pem(keys.load_private_key(files.key)))
    with pytest.raises(Untrusted, match=r"\.pub does not belong to .*\.masterkey"):
        keys.check_key_files(files)
    with pytest.raises(Untrusted):
        keys.import_keys(FQRN, tmp_path, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_import_copies_all_and_takes_the_gateway_key_along(made: keys.KeyFiles, tmp_path: Path) -> None:
    source = tmp_path / "source"
    keys.import_keys(FQRN, made.master.parent, source)
    (source / f"{FQRN}.gw").write_text("plain_text id secret\n")
    owner = keys.Owner(1234, 1235) if os.geteuid() == 0 else keys.Owner(os.getuid(), os.getgid())
    files = keys.import_keys(FQRN, source, tmp_path / "target", owner=owner)
    assert contents(tmp_path / "target") == contents(source)
    assert (files.key.stat().st_uid, files.key.stat().st_gid) == (owner.uid, owner.gid)
    assert files.certificate.stat().st_uid == owner.uid
    assert files.master.stat().st_uid == os.geteuid()
    assert stat.S_IMODE(files.gateway.stat().st_mode) == 0o400


def test_import_overwrites_nothing(made: keys.KeyFiles, tmp_path: Path) -> None:
    (tmp_path / f"{FQRN}.key").write_text("precious")
    text = f"Importing keys from '{made.master.parent}' would overwrite keys in '{tmp_path}'"
    with pytest.raises(InvalidInput) as caught:
        keys.import_keys(FQRN, made.master.parent, tmp_path)
    assert str(caught.value) == text
    assert contents(tmp_path) == {f"{FQRN}.key": b"precious"}


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(NearfsError, match="No space left on device"):
        keys.create_keys(FQRN, tmp_path, now=NOW)
    assert contents(tmp_path) == {}


def _elliptic() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())


def _locked(made: keys.KeyFiles) -> bytes:
    key = form.load_pem_private_key(made.key.read_bytes(), None)
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"x"))


def test_bad_private_keys_are_named(made: keys.KeyFiles, tmp_path: Path) -> None:
    cases: list[tuple[bytes, type[NearfsError], str]] = [
        (b"", Corrupt, "holds no valid PEM private key"),
        (made.public.read_bytes(), Corrupt, "holds no valid PEM private key"),
        (made.key.read_bytes()[:-200], Corrupt, "holds no valid PEM private key"),
        (_elliptic(), Unsupported, "is no RSA key"),
        (_locked(made), Unsupported, "passphrase"),
        (b"x" * (1 << 17), Corrupt, "larger than"),
    ]
    path = tmp_path / "bad.key"
    for content, kind, words in cases:
        path.write_bytes(content)
        with pytest.raises(kind, match=words) as caught:
            keys.load_private_key(path)
        assert str(path) in str(caught.value)


def test_missing_and_bad_public_parts_are_named(made: keys.KeyFiles, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.pub does not exist"):
        keys.load_public_keys([made.public, tmp_path / "none.pub"])
    with pytest.raises(Corrupt, match="no valid PEM certificate"):
        keys.load_certificate(made.public)
    with pytest.raises(Corrupt, match="no valid PEM public key"):
        keys.load_public_key(made.key)
    with pytest.raises(InvalidInput, match="Is a directory"):
        keys.load_public_key(tmp_path)


def test_loaded_key_signs(made: keys.KeyFiles) -> None:
    from cryptography.hazmat.primitives.hashes import SHA256

    signature = keys.load_private_key(made.master).sign(b"x", padding.PKCS1v15(), SHA256())
    keys.load_public_key(made.public).verify(signature, b"x", padding.PKCS1v15(), SHA256())
