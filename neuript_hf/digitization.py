"""Electrodes by digitised position, for channels whose names do not say where they are."""

from typing import Any

import numpy as np

from .electrodes import POSITIONS


# Fiducials of the template that POSITIONS are of, millimetres (mne.channels.make_standard_montage("colin27_1005")).
TEMPLATE_FIDUCIALS = {
    "lpa": (-80.6161, -29.0888, -41.3108),
    "nasion": (1.4676, 85.0672, -34.8361),
    "rpa": (84.3629, -28.5028, -41.2774),
}
# A sensor further than this from every electrode of the 10-05 system, in millimetres, is not at any of them.
LARGEST_DISTANCE = 15.0
# Distances between the ears that a head can have, in millimetres.
HEAD_WIDTH = (80.0, 240.0)


def electrodes_by_position(info: Any) -> dict[str, tuple[str, float]]:
    """
    The electrode of the 10-05 system nearest to each digitised sensor.

    Head and template are aligned by their fiducials (rotated, shifted, scaled by the distances between them), or
    compared as they are if that fits better: many files have a template's positions with another head's fiducials.

    Args:
        info: `mne.Info` with sensor positions.

    Returns:
        channel name -> (electrode, distance in millimetres); each electrode only once, for the nearest sensor.

    Raises:
        ValueError: where there are no positions, or they do not lie on a head.
    """
    montage = info.get_montage()
    positions = montage.get_positions() if montage is not None else {"ch_pos": {}}
    sensors = {name: place for name, place in positions["ch_pos"].items() if np.isfinite(place).all()}
    if not sensors:
        raise ValueError("the recording has no digitised positions.")
    places = np.array(list(sensors.values())) * 1000
    sites = np.array(list(POSITIONS.values()))
    distances = [np.linalg.norm(places[:, None] - sites, axis=-1)]
    fiducials = [positions.get(name) for name in TEMPLATE_FIDUCIALS]
    if all(place is not None for place in fiducials):
        frame = _HeadFrame(np.array(fiducials) * 1000)
        template = _HeadFrame(np.array(list(TEMPLATE_FIDUCIALS.values())))
        if HEAD_WIDTH[0] <= frame.width <= HEAD_WIDTH[1]:
            apart = np.linalg.norm(frame.of(places)[:, None] - template.of(sites), axis=-1)
            distances.append(apart * template.size)
    best = min(distances, key=lambda candidate: np.median(candidate.min(axis=1)))
    if np.median(best.min(axis=1)) > LARGEST_DISTANCE:
        raise ValueError(
            "the digitised positions do not lie on a head: check their unit and the fiducials (raw.set_montage)."
        )
    return _nearest(list(sensors), best)


def _nearest(names: list[str], distances: np.ndarray) -> dict[str, tuple[str, float]]:
    """Each electrode goes to its nearest sensor, starting with the closest pair."""
    found: dict[str, tuple[str, float]] = {}
    taken, electrodes = set(), list(POSITIONS)
    for number in np.argsort(distances.min(axis=1)):
        electrode, distance = electrodes[int(distances[number].argmin())], float(distances[number].min())
        if distance <= LARGEST_DISTANCE and electrode not in taken:
            found[names[number]] = (electrode, distance)
            taken.add(electrode)
    return found


class _HeadFrame:
    """
    Axes of a head by left ear, nasion and right ear: x to the right ear, y to the nasion, z up; the origin is between
    the ears, where the line to the nasion is perpendicular to x.
    """

    def __init__(self, fiducials: np.ndarray):
        left, nasion, right = fiducials
        self.width = float(np.linalg.norm(right - left))
        x = (right - left) / max(self.width, 1e-9)
        self.origin = left + x * ((nasion - left) @ x)
        forward = nasion - self.origin
        y = forward / max(np.linalg.norm(forward), 1e-9)
        self.axes = np.stack([x, y, np.cross(x, y)])
        self.size = self.width / 2 + float(np.linalg.norm(forward))

    def of(self, places: np.ndarray) -> np.ndarray:
        """Positions in this frame, in units of the head's size."""
        return (places - self.origin) @ self.axes.T / self.size


__all__ = ["electrodes_by_position"]
