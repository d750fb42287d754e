"""Owns places on the earth and their distance: the great-circle angle on a unit sphere. Pure functions: any thread."""

import math
from collections.abc import Iterable
from typing import NamedTuple


class Place(NamedTuple):
    """A point on the earth, in degrees: north and east are positive."""

    latitude: float
    longitude: float


def place(latitude: float, longitude: float) -> Place | None:
    """Returns the place, or None where the numbers are none of the earth."""
    if not (math.isfinite(latitude) and math.isfinite(longitude)):
        return None
    return Place(latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else None


def angle(one: Place, other: Place) -> float:
    """Returns the angle between two places, in radians.

    The form with the half angles: it tells places of one town apart, where the arc cosine has no digits left.
    """
    latitudes = math.radians(one.latitude), math.radians(other.latitude)
    half_north = math.sin((latitudes[1] - latitudes[0]) / 2)
    half_east = math.sin(math.radians(other.longitude - one.longitude) / 2)
    chord = half_north**2 + math.cos(latitudes[0]) * math.cos(latitudes[1]) * half_east**2
    return 2 * math.asin(math.sqrt(min(1.0, chord)))


def nearest_first(origin: Place, places: Iterable[Place | None]) -> list[int]:
    """Returns the 0-based numbers of `places`, the nearest to `origin` first.

    Those that nobody could locate come last; equals stay in their order.
    """
    distances = [math.inf if at is None else angle(origin, at) for at in places]
    return sorted(range(len(distances)), key=distances.__getitem__)
