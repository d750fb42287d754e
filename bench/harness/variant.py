"""The ways in which one tree is published: plainly, with packs, with bundles.

Owns the names and what they mean in server.conf; `bench.harness.site` does it. Immutable.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variant:
    """A way to publish a tree; the content is the same in all of them."""

    name: str
    #: What stands in server.conf before the tree is published.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: True where what programs read is recorded and published with the tree (`Scenario.bundle_begins`).
    has_bundles: bool = False


PLAIN = Variant("plain")
PACKS = Variant("packs", {"NEARFS_PACKS": "true"})
BUNDLES = Variant("bundles", PACKS.settings, has_bundles=True)
