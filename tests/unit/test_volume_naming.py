"""What names and options of volumes mean, which are refused, and what the client of a volume is told."""

import pytest

from nearfs.config import parameters
from nearfs.containers.naming import PARAMETERS, Kind, Volume, check_volume_name, parse
from nearfs.errors import InvalidInput

FQRN = "lab.example.org"
HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("name", "options", "kind", "value", "identity"),
    [
        (FQRN, {}, Kind.NEWEST, "", FQRN),
        (f"{FQRN}@trunk-previous", {}, Kind.TAG, "trunk-previous", f"{FQRN}@trunk-previous"),
        (f"{FQRN}@{HASH}", {}, Kind.HASH, HASH, f"{FQRN}@{HASH}"),
        (f"{FQRN}#{HASH}-shake128", {}, Kind.HASH, f"{HASH}-shake128", f"{FQRN}@{HASH}-shake128"),
        (f"{FQRN}#2026-01-31", {}, Kind.DATE, "2026-01-31T00:00:00Z", f"{FQRN}#20260131T000000Z"),
        (f"{FQRN}#2026-01-31T121314Z", {}, Kind.DATE, "2026-01-31T12:13:14Z", f"{FQRN}#20260131T121314Z"),
        ("free", {"repository": FQRN, "tag": "v1"}, Kind.TAG, "v1", f"{FQRN}@v1"),
        (f"{FQRN}@not-a-tag", {"repository": FQRN, "hash": HASH}, Kind.HASH, HASH, f"{FQRN}@{HASH}"),
        (FQRN, {"date": "2026-01-31T12:13:14Z"}, Kind.DATE, "2026-01-31T12:13:14Z", f"{FQRN}#20260131T121314Z"),
    ],
)
def test_a_name_with_options_is_a_revision(
    name: str, options: dict[str, str], kind: Kind, value: str, identity: str
) -> None:
    volume = parse(name, options)
    assert volume == Volume(FQRN, kind, value)
    assert volume.identity == identity


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("", {}, "repository name"),
        ("short", {}, "not fully qualified"),
        ("../up.example.org", {}, "invalid repository name"),
        (f"{FQRN}@", {}, "is no tag"),
        (f"{FQRN}@a b", {}, "is no tag"),
        (f"{FQRN}@a'$(x)", {}, "is no tag"),
        (f"{FQRN}#", {}, "is no date"),
        (f"{FQRN}#2026-02-30", {}, "is no date"),
        (f"{FQRN}@v1", {"tag": "v1"}, "more than one revision"),
        (FQRN, {"tag": "v1", "hash": HASH}, "more than one revision"),
        (FQRN, {"hash": "v1"}, "is no root hash"),
        (FQRN, {"color": "red"}, "no option 'color'"),
        (FQRN, {"CVMFS_PUBLIC_KEY": "/tmp/key"}, "set it in /etc/cvmfs"),
        (FQRN, {"CVMFS_HTTP_PROXY": "DIRECT\nCVMFS_USER=root"}, "must be one line"),
        (FQRN, {"CVMFS_HTTP_PROXY": "x # y"}, "must be one line"),
        (FQRN, {"CVMFS_HTTP_PROXY": " x"}, "must be one line"),
        (FQRN, {"CVMFS_HTTP_PROXY": "x" * 5000}, "must be one line"),
    ],
)
def test_what_is_no_volume_is_refused_with_the_rule(name: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse(name, options)


@pytest.mark.parametrize("name", [None, 7, "", "a\nb", "x" * 256, "\x00"])
def test_volume_names_are_printable_and_bounded(name: object) -> None:
    with pytest.raises(InvalidInput):
        check_volume_name(name)


def test_volumes_share_a_mount_exactly_where_they_show_the_same() -> None:
    volumes = [
        parse(FQRN, {}),
        parse(f"{FQRN}@v1", {}),
        parse(f"{FQRN}@v2", {}),
        parse(f"{FQRN}@a/b", {}),
        parse(f"{FQRN}@a:b", {}),
        parse(f"{FQRN}@a_b", {}),
        parse(f"{FQRN}@{'x' * 200}", {}),
        parse(f"{FQRN}@{'x' * 201}", {}),
        parse(FQRN, {"CVMFS_HTTP_PROXY": "DIRECT"}),
        parse(FQRN, {"CVMFS_HTTP_PROXY": "http://proxy:3128"}),
        parse(f"{FQRN}@v1", {"CVMFS_HTTP_PROXY": "DIRECT"}),
    ]
    identities = [volume.identity for volume in volumes]
    assert len(set(identities)) == len(identities)
    assert all("/" not in identity and len(identity) < 200 for identity in identities)
    assert parse("other", {"repository": FQRN, "tag": "v1"}).identity == identities[1]


def test_a_revision_empties_what_else_could_choose_one() -> None:
    assert parse(f"{FQRN}@v1", {"CVMFS_TIMEOUT": "7"}).settings() == {
        "CVMFS_REPOSITORY_TAG": "v1",
        "CVMFS_ROOT_HASH": "",
        "CVMFS_REPOSITORY_DATE": "",
        "CVMFS_TIMEOUT": "7",
    }
    assert parse(FQRN, {}).settings() == {}


def test_parameters_of_a_volume_have_an_effect_and_name_no_file() -> None:
    table = [parameters.PARAMETERS[name] for name in PARAMETERS]
    assert all(row.honoured for row in table)
    assert not [row.name for row in table if row.kind in (parameters.Kind.PATH, parameters.Kind.COLON_LIST)]
    assert not PARAMETERS & {"CVMFS_USER", "CVMFS_SUID", "CVMFS_MOUNT_RW", "CVMFS_TALK_OWNER"}
