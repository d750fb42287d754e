"""Key files of a repository: master key pair, signing key, certificate (format.md 3.7, server.md 2.3).

Owns: making, importing, loading and checking the files below a keys directory. Does not own: what is signed with them
(`signing`, `whitelist`), and gateway keys beyond copying them.
Threading: no shared state. Every file appears whole or not at all, and no existing key is ever overwritten: a master
key that is lost cannot be had again. A run that was killed half-way is completed by the next one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nearfs.config import names
from nearfs.errors import Corrupt, InvalidInput, NearfsError, NotFound, PermissionDenied, Unsupported, Untrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from cryptography.x509 import Certificate

KEY_BITS = 2048
CERTIFICATE_DAYS = 365
PRIVATE_MODE = 0o400
PUBLIC_MODE = 0o444
MAX_KEY_FILE_BYTES = 1 << 16
_Parsed = TypeVar("_Parsed")
# X.509 allows 64 characters for a common name; the cut leaves room for the fixed words.
_NAME_IN_CERTIFICATE = 30


@dataclass(frozen=True)
class KeyFiles:
    """Where the keys of one repository lie."""

    master: Path
    public: Path
    key: Path
    certificate: Path
    gateway: Path

    @classmethod
    def of(cls, fqrn: str, directory: Path | str) -> KeyFiles:
        """Returns the paths below a keys directory."""
        names.check_fqrn(fqrn)
        base = Path(directory)
        suffixes = ("masterkey", "pub", "key", "crt", "gw")
        return cls(*(base / f"{fqrn}.{suffix}" for suffix in suffixes))


@dataclass(frozen=True)
class Owner:
    """User and group that sign: they own `.key` and `.crt`."""

    uid: int
    gid: int


def create_keys(fqrn: str, directory: Path | str, *, now: dt.datetime, owner: Owner | None = None) -> KeyFiles:
    """Makes the four key files of a repository and returns where they are.

    Keys that exist are kept and completed (a public key from its master key, a certificate from its signing key).
    `owner` needs root. Raises `InvalidInput` if a public part exists without its private one, `Untrusted` if existing
    files do not belong together.
    """
    files = KeyFiles.of(fqrn, directory)
    for private, public in ((files.master, files.public), (files.key, files.certificate)):
        if os.path.exists(public) and not os.path.exists(private):
            message = f"{public} exists, but not {private} that belongs to it; import it with -k or remove the former"
            raise InvalidInput(message, operation="create keys", subject=str(public))
    _ensure(files.master, lambda: private_pem(new_rsa_key()), PRIVATE_MODE, None)
    _ensure(files.public, lambda: public_pem(load_private_key(files.master)), PUBLIC_MODE, None)
    create_signing_key(fqrn, files, now=now, owner=owner)
    check_key_files(files)
    return files


def create_signing_key(fqrn: str, files: KeyFiles, *, now: dt.datetime, owner: Owner | None = None) -> None:
    """Makes the signing key and its certificate where there are none; `owner` needs root."""
    _ensure(files.key, lambda: private_pem(new_rsa_key()), PRIVATE_MODE, owner)
    _ensure(files.certificate, lambda: certificate_pem(fqrn, load_private_key(files.key), now), PUBLIC_MODE, owner)


def import_keys(
    fqrn: str, source: Path | str, directory: Path | str, *, owner: Owner | None = None, is_whole: bool = True
) -> KeyFiles:
    """Copies the key files of a repository from another directory (`mkfs -k`), after checking them there.

    The gateway key comes along if it exists. Without `is_whole`, master key, signing key and certificate may be missing
    as well. Raises `InvalidInput` if a different key would be overwritten.
    """
    origin, files = KeyFiles.of(fqrn, source), KeyFiles.of(fqrn, directory)
    check_key_files(origin, is_whole=is_whole)
    pairs = [
        (origin.master, files.master, PRIVATE_MODE, None),
        (origin.public, files.public, PUBLIC_MODE, None),
        (origin.key, files.key, PRIVATE_MODE, owner),
        (origin.certificate, files.certificate, PUBLIC_MODE, owner),
    ]
    if os.path.exists(origin.gateway):
        pairs.append((origin.gateway, files.gateway, PRIVATE_MODE, owner))
    if not is_whole:
        pairs = [pair for pair in pairs if pair[0] == origin.public or os.path.exists(pair[0])]
    contents = [read_key_file(old) for old, _, _, _ in pairs]
    for (_, new, _, _), content in zip(pairs, contents, strict=True):
        if os.path.exists(new) and read_key_file(new) != content:
            message = f"Importing keys from '{source}' would overwrite keys in '{directory}'"
            raise InvalidInput(message, operation="import keys", subject=str(new))
    for (_, new, mode, user), content in zip(pairs, contents, strict=True):
        _ensure(new, partial(bytes, content), mode, user)
    return files


def check_key_files(files: KeyFiles, *, is_whole: bool = True) -> None:
    """Checks that the pairs belong together; raises `Untrusted` naming the two files if they do not.

    Without `is_whole`, a private part may be missing, and then there is nothing to compare.
    """
    has_master = is_whole or os.path.exists(files.master)
    if has_master and load_private_key(files.master).public_key() != load_public_key(files.public):
        raise _mismatch(files.public, files.master)
    has_key = is_whole or (os.path.exists(files.key) and os.path.exists(files.certificate))
    if has_key and load_private_key(files.key).public_key() != load_certificate(files.certificate).public_key():
        raise _mismatch(files.certificate, files.key)


def new_rsa_key() -> RSAPrivateKey:
    """Returns a fresh RSA key of the size that the format's tools use."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def private_pem(key: RSAPrivateKey) -> bytes:
    """Returns the key as unencrypted PKCS#8 PEM."""
    from cryptography.hazmat.primitives import serialization as form

    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())


def public_pem(key: RSAPrivateKey) -> bytes:
    """Returns the public half as PEM SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives import serialization as form

    return key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def certificate_common_name(fqrn: str) -> str:
    """Returns the common name of a repository's certificate."""
    short = fqrn if len(fqrn) <= _NAME_IN_CERTIFICATE else f"{fqrn[:_NAME_IN_CERTIFICATE]}[...]"
    return f"{short} CernVM-FS Release Managers"


def certificate_pem(fqrn: str, key: RSAPrivateKey, now: dt.datetime) -> bytes:
    """Returns a self-signed certificate as PEM, valid from `now` (with its time zone) for 365 days."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, certificate_common_name(fqrn))])
    start = now.astimezone(dt.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=start,
        not_valid_after=start + dt.timedelta(days=CERTIFICATE_DAYS),
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_key_file(path: Path | str) -> bytes:
    """Returns the bytes of a key file; missing, unreadable and absurdly large files get an error of their own."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"key file {path} does not exist", operation="read key", subject=str(path)) from error
    except PermissionError as error:
        message = f"key file {path} may not be read by user {os.geteuid()}; run as its owner or as root"
        raise PermissionDenied(message, operation="read key", subject=str(path)) from error
    except OSError as error:
        message = f"key file {path} cannot be read: {error.strerror}"
        raise InvalidInput(message, operation="read key", subject=str(path)) from error
    if len(content) > MAX_KEY_FILE_BYTES:
        message = f"key file {path} is larger than {MAX_KEY_FILE_BYTES} bytes: this is no key"
        raise Corrupt(message, operation="read key", subject=str(path))
    return content


def load_private_key(path: Path | str) -> RSAPrivateKey:
    """Returns an RSA private key from PEM (`.masterkey`, `.key`)."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = read_key_file(path)
    try:
        key = _parsed(path, "private key", lambda: load_pem_private_key(content, password=None))
    except TypeError as error:
        message = f"{path} is protected by a passphrase; nearfs needs it without one"
        raise Unsupported(message, operation="load key", subject=str(path)) from error
    if not isinstance(key, RSAPrivateKey):
        raise _not_rsa(path)
    return key


def load_public_key(path: Path | str) -> RSAPublicKey:
    """Returns an RSA public key from PEM (`.pub`)."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = read_key_file(path)
    key = _parsed(path, "public key", lambda: load_pem_public_key(content))
    if not isinstance(key, RSAPublicKey):
        raise _not_rsa(path)
    return key


def load_public_keys(paths: Iterable[Path | str]) -> list[RSAPublicKey]:
    """Returns the master public keys; one bad file fails the whole list, as on the client."""
    return [load_public_key(path) for path in paths]


def load_certificate(path: Path | str) -> Certificate:
    """Returns the certificate from PEM (`.crt`); its key must be RSA. Validity is not looked at, trust is not here."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509 import load_pem_x509_certificate

    content = read_key_file(path)
    certificate = _parsed(path, "certificate", lambda: load_pem_x509_certificate(content))
    if not isinstance(_parsed(path, "certificate", certificate.public_key), RSAPublicKey):
        raise _not_rsa(path)
    return certificate


def certificate_der(certificate: Certificate) -> bytes:
    """Returns the DER encoding, which is what fingerprints hash."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def _parsed(path: Path | str, what: str, parse: Callable[[], _Parsed]) -> _Parsed:
    """Runs a parser of `cryptography`, whose complaints become ours."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return parse()
    except ValueError as error:
        message = f"{path} holds no valid PEM {what}"
        raise Corrupt(message, operation="load key", subject=str(path)) from error
    except UnsupportedAlgorithm as error:
        raise _not_rsa(path) from error


def _not_rsa(path: Path | str) -> NearfsError:
    return Unsupported(f"{path} is no RSA key; the format knows only RSA", operation="load key", subject=str(path))


def _mismatch(public: Path, private: Path) -> NearfsError:
    message = f"{public} does not belong to {private}; restore the matching file from a backup"
    return Untrusted(message, operation="check keys", subject=str(public))


def _ensure(path: Path, make: Callable[[], bytes], mode: int, owner: Owner | None) -> None:
    """Creates a file whole and durable, or leaves the one that exists alone."""
    if os.path.exists(path):
        return
    try:
        _create_whole(path, make(), mode, owner)
    except FileExistsError:
        return  # someone else was first; what is there stays, and the check of the pairs will look at it
    except OSError as error:
        message = f"cannot create key file {path}: {error.strerror}"
        kind = PermissionDenied if isinstance(error, PermissionError) else InvalidInput
        raise kind(message, operation="create key", subject=str(path)) from error


def _create_whole(path: Path, content: bytes, mode: int, owner: Owner | None) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            if owner is not None:
                os.fchown(descriptor, owner.uid, owner.gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        # A hard link fails where a rename would silently replace a key.
        os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
