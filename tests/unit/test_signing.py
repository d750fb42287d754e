"""Manifest and whitelist: written, signed and read; checked with `cryptography` and against golden bytes."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes as crypto_hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nearfs import hashes, signing, whitelist
from nearfs.errors import Corrupt, InvalidInput, Unsupported
from nearfs.hashes import HashAlgorithm

FQRN = "lab.example.org"
NOW = dt.datetime(2026, 11, 22, 21, 14, 34, tzinfo=dt.UTC)
GOLDEN = Path(os.environ.get("NEARFS_GOLDEN", Path(__file__).parents[2].parent / "shared" / "golden"))
ALGORITHMS = list(HashAlgorithm)
PRINT = whitelist.Fingerprint("AB:" * 19 + "CD")


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def text_hash(content: bytes, algorithm: str) -> str:
    """Computes a hash text by other means than the code under test."""
    if algorithm == "sha1":
        return hashlib.sha1(content).hexdigest()
    if algorithm == "shake128":
        return hashlib.shake_128(content).hexdigest(20) + "-shake128"
    return hashlib.new("ripemd160", content).hexdigest() + "-rmd160"


def fields() -> signing.ManifestFields:
    return signing.ManifestFields("c" * 40, 520192, 7, FQRN, certificate="d" * 40 + "-shake128", timestamp=1795382017)


@pytest.mark.parametrize(
    ("content", "algorithm", "expected"),
    [
        ("789c030000000001", "sha1", "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78"),
        ("789c030000000001", "rmd160", "fcdb20b894f31f1306d56294c049ca7293dde0fc-rmd160"),
        ("789c030000000001", "shake128", "28d94b83b7229b331fc601362b8e272e02665122-shake128"),
        ("789ccb48cdc9c95728cf2fca49e102001e720467", "sha1", "ff049c626904064d641feca0e9936e5b211807c6"),
    ],
)
def test_hash_texts_of_the_specification(content: str, algorithm: str, expected: str) -> None:
    assert hashes.hash_text(bytes.fromhex(content), HashAlgorithm(algorithm)) == expected
    assert hashes.algorithm_of(expected) is HashAlgorithm(algorithm)


@pytest.mark.parametrize("text", ["", "a" * 39, "A" * 40, "a" * 32, "a" * 40 + "-md5", "a" * 40 + "\n", "g" * 40])
def test_what_is_no_content_hash(text: str) -> None:
    assert hashes.algorithm_of(text) is None


def test_missing_ripemd_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        message = "unsupported hash type ripemd160"
        raise ValueError(message)

    monkeypatch.setattr(hashlib, "new", refuse)
    with pytest.raises(Unsupported, match="RIPEMD-160 is not available"):
        hashes.hash_text(b"", HashAlgorithm.RMD160)


def test_manifest_fields_are_written_in_order() -> None:
    full = replace(
        fields(),
        garbage_collectable=True,
        history="a" * 40,
        meta_info="b" * 40,
        reflog="e" * 40,
        alternative_paths=True,
    )
    assert signing.manifest_body(full).decode().split("\n") == [
        "C" + "c" * 40,
        "B520192",
        "Rd41d8cd98f00b204e9800998ecf8427e",
        "D240",
        "S7",
        "Gyes",
        "Ayes",
        f"N{FQRN}",
        "X" + "d" * 40 + "-shake128",
        "H" + "a" * 40,
        "T1795382017",
        "M" + "b" * 40,
        "Y" + "e" * 40,
        "",
    ]
    assert signing.parse_manifest(signing.manifest_body(full), signed=False).fields == full


def test_optional_manifest_fields_are_left_out() -> None:
    body = signing.manifest_body(signing.ManifestFields("c" * 40, 0, 0, ""))
    assert "".join(line[0] for line in body.decode().splitlines()) == "CBRDSGA"


@pytest.mark.parametrize(
    "wrong",
    [{"root_hash": "x"}, {"history": "a" * 32}, {"revision": -1}, {"name": "a\nXb"}, {"name": "nodot"}, {"reflog": ""}],
)
def test_bad_manifest_field_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        signing.manifest_body(replace(fields(), **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_manifest_signature_verifies(key: rsa.RSAPrivateKey, algorithm: HashAlgorithm) -> None:
    body = signing.manifest_body(fields())
    signed = signing.sign_manifest(body, algorithm, key)
    head, tail = signed.split(b"\n--\n", 1)
    line, signature = tail.split(b"\n", 1)
    assert head + b"\n" == body
    assert line.decode() == text_hash(body, algorithm.value)
    assert len(signature) == 256
    key.public_key().verify(signature, line, padding.PKCS1v15(), crypto_hashes.SHA1())
    parsed = signing.parse_manifest(signed)
    assert parsed.fields == fields()
    assert parsed.signed is not None
    assert parsed.signed.signature == signature


def test_manifest_that_readers_would_refuse_is_not_signed(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(InvalidInput, match="less than 4096"):
        signing.sign_manifest(b"Z" + b"z" * 4000 + b"\n", HashAlgorithm.SHA1, key)
    with pytest.raises(InvalidInput, match="end with a newline"):
        signing.sign_manifest(b"Cx", HashAlgorithm.SHA1, key)
    with pytest.raises(InvalidInput, match="just '--'"):
        signing.sign_manifest(b"Cx\n--\nD1\n", HashAlgorithm.SHA1, key)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (b"\nS7\n", b"\n", "field S: missing"),
        (b"\nD240\n", b"\nD-1\n", "field D"),
        (b"\nB520192\n", b"\nB" + b"9" * 5000 + b"\n", "field B"),
        (b"\nRd4", b"\nRe4", "field R"),
        (b"\nXd", b"\nXq", "field X"),
        (b"Nlab", b"N../lab", "field N"),
        (b"Ccc", b"Qcc", "field C: missing"),
    ],
)
def test_altered_manifest_is_corrupt(before: bytes, after: bytes, words: str) -> None:
    body = signing.manifest_body(fields())
    assert before in body
    with pytest.raises(Corrupt, match=words):
        signing.parse_manifest(body.replace(before, after), signed=False)


def test_reader_takes_the_last_of_duplicates_and_ignores_unknown_letters() -> None:
    body = signing.manifest_body(fields()) + b"\nS8\nQunknown\nZ1\nZ2\n"
    assert signing.parse_manifest(body, signed=False).fields.revision == 8


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text.replace(b"S7\n", b"S8\n"), "does not fit"),
        (lambda text: text.replace(b"\n--\n", b"\n-\n"), "no '--'"),
        (lambda text: text[: text.index(b"\n--\n") + 10], "no hash line"),
        (lambda text: re.sub(rb"\n--\n.", b"\n--\nz", text), "no content hash"),
        (lambda text: text + b"x" * (1 << 20), "larger than"),
        (lambda _: b"", "no '--'"),
    ],
)
def test_damaged_envelope_is_corrupt(key: rsa.RSAPrivateKey, damage: object, words: str) -> None:
    signed = signing.sign_manifest(signing.manifest_body(fields()), HashAlgorithm.SHA1, key)
    assert callable(damage)
    with pytest.raises(Corrupt, match=words):
        signing.parse_manifest(damage(signed))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_whitelist_signature_recovers_the_hash_text(key: rsa.RSAPrivateKey, algorithm: HashAlgorithm) -> None:
    other = whitelist.Fingerprint("01:" * 19 + "EF-SHAKE128", "alice")
    signed = whitelist.sign_whitelist(FQRN, [PRINT, other], key, NOW, hash_algorithm=algorithm)
    head, tail = signed.split(b"\n--\n", 1)
    line, signature = tail.split(b"\n", 1)
    expected = ["20261122211434", "E20261222211434", f"N{FQRN}", PRINT.text, f"{other.text} # alice"]
    assert head.decode().split("\n") == expected
    assert line.decode() == text_hash(head + b"\n", algorithm.value)
    assert key.public_key().recover_data_from_signature(signature, padding.PKCS1v15(), None) == line
    parsed = whitelist.parse_whitelist(signed)
    assert (parsed.fqrn, parsed.issued, parsed.expires) == (FQRN, NOW, NOW + dt.timedelta(days=30))
    assert parsed.fingerprints == (PRINT, other)
    assert not parsed.pkcs7


@pytest.mark.parametrize(
    ("moment", "expired", "days"),
    [
        (NOW, False, 1),
        (dt.datetime(2026, 11, 24, 20, 59, 59, tzinfo=dt.UTC), False, 0),
        (dt.datetime(2026, 11, 24, 22, 59, 59, tzinfo=dt.timezone(dt.timedelta(hours=2))), False, 0),
        (dt.datetime(2026, 11, 24, 21, 0, 0, tzinfo=dt.UTC), True, 0),
        (dt.datetime(2026, 11, 24, 21, 14, 33, tzinfo=dt.UTC), True, -1),
        (dt.datetime(2027, 1, 1, tzinfo=dt.UTC), True, -38),
    ],
)
def test_expiry_looks_at_hours_only(
    key: rsa.RSAPrivateKey,
    moment: dt.datetime,
    expired: bool,
    days: int,
) -> None:
    parsed = whitelist.parse_whitelist(whitelist.sign_whitelist(FQRN, [PRINT], key, NOW, days=2))
    assert (parsed.is_expired(moment), parsed.days_left(moment)) == (expired, days)


@pytest.mark.parametrize(
    ("prints", "days", "words"),
    [
        ([], 30, "no certificate"),
        ([PRINT], 0, "1 to"),
        ([PRINT], 10**7, "1 to"),
        ([whitelist.Fingerprint("AB:CD")], 30, "no certificate fingerprint"),
        ([whitelist.Fingerprint(PRINT.text + "\n--")], 30, "no certificate fingerprint"),
        ([whitelist.Fingerprint(PRINT.text, "a\n--")], 30, "unprintable"),
    ],
)
def test_bad_whitelist_is_not_signed(prints: list[whitelist.Fingerprint], days: int, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        whitelist.whitelist_body(FQRN, prints, NOW, days)


def test_whitelist_reader_skips_what_is_no_fingerprint(key: rsa.RSAPrivateKey) -> None:
    from nearfs import envelope

    body = (
        f"20260101000000\nE20270101000000\nN{FQRN}\nVpkcs7\n# hello\n\nnonsense\n{PRINT.text.lower()}\t# bob\n".encode()
    )
    text = text_hash(body, "sha1")
    parsed = whitelist.parse_whitelist(envelope.seal(body, text, signing.sign_raw(text.encode(), key)))
    assert parsed.pkcs7
    assert [entry.comment for entry in parsed.fingerprints] == ["bob"]
    assert parsed.lists(PRINT.text)
    assert not parsed.lists(PRINT.text + "-SHAKE128")


@pytest.mark.parametrize(
    "body",
    [b"", b"x\n", b"20260101000000\nE20271301000000\nNa.b\n", b"20260101000000\nE2027\nNa.b\n", b"2\nE2\nN../x\n"],
)
def test_bad_whitelist_is_corrupt(body: bytes) -> None:
    with pytest.raises(Corrupt):
        whitelist.parse_whitelist(body + b"\n--\n" + text_hash(body + b"\n", "sha1").encode() + b"\n")


@pytest.fixture(params=["golden.example.org", "golden-shake.example.org"])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    fqrn = str(request.param)
    archive = GOLDEN / fqrn / "repository.tar.xz"
    if not archive.exists():
        pytest.skip(f"golden repositories not found in {GOLDEN} (set NEARFS_GOLDEN)")
    with tarfile.open(archive) as tar:
        wanted = re.compile(r"(^|/)(\.cvmfspublished|\.cvmfswhitelist|data/../[^/]*X)$")
        tar.extractall(tmp_path, [entry for entry in tar if wanted.search(entry.name)], filter="data")
    return fqrn, next(tmp_path.rglob(".cvmfspublished")).parent


def test_golden_whitelist_is_read_and_would_be_written_alike(golden: tuple[str, Path]) -> None:
    fqrn, root = golden
    parsed = whitelist.parse_whitelist((root / ".cvmfswhitelist").read_bytes())
    days = (parsed.expires - parsed.issued).days
    assert whitelist.whitelist_body(fqrn, parsed.fingerprints, parsed.issued, days) == parsed.signed.body
    public = form.load_pem_public_key((GOLDEN / fqrn / f"{fqrn}.pub").read_bytes())
    assert isinstance(public, rsa.RSAPublicKey)
    recovered = public.recover_data_from_signature(parsed.signed.signature, padding.PKCS1v15(), None)
    assert recovered.decode() == parsed.signed.hash_text


def test_golden_manifest_is_read_and_would_be_written_alike(golden: tuple[str, Path]) -> None:
    fqrn, root = golden
    parsed = signing.parse_manifest((root / ".cvmfspublished").read_bytes())
    assert parsed.signed is not None
    assert signing.manifest_body(parsed.fields) == parsed.signed.body
    assert parsed.fields.name == fqrn
    name = parsed.fields.certificate or ""
    pem = zlib.decompress((root / "data" / name[:2] / f"{name[2:]}X").read_bytes())
    certificate = x509.load_pem_x509_certificate(pem)
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    message = parsed.signed.hash_text.encode()
    public.verify(parsed.signed.signature, message, padding.PKCS1v15(), crypto_hashes.SHA1())
    algorithm = hashes.algorithm_of(parsed.fields.root_hash)
    assert algorithm is not None
    listed = whitelist.parse_whitelist((root / ".cvmfswhitelist").read_bytes())
    assert listed.lists(signing.certificate_fingerprint(certificate.public_bytes(form.Encoding.DER), algorithm))
