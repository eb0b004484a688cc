"""
Electrodes: positions, montages and lobes; tables and the few functions that read them.

A channel name here is an electrode of the 10-05 system (`"C3"`), a site of a dense net (`"E22@GSNHydroCel128"`) or a
bipolar pair of these (`"Fp1-F7"`, first minus second). A file's own spelling goes through [`resolve_channel`] first.
Grid coordinates and lobes are those of docs/model.md sections 3 and 8.
"""

import re
from collections.abc import Sequence

import numpy as np

from .caps import NET_POSITIONS, POSITIONS, TEN_TWENTY
from .channel_names import resolve_channel


# fmt: off
DOUBLE_BANANA = (
    "Fp1-F7", "F7-T7", "T7-P7", "P7-O1", "Fp2-F8", "F8-T8", "T8-P8", "P8-O2", "T7-C3", "C3-Cz",
    "Cz-C4", "C4-T8", "Fp1-F3", "F3-C3", "C3-P3", "P3-O1", "Fp2-F4", "F4-C4", "C4-P4", "P4-O2",
)
# docs/model.md section 2.2; the order is the model's.
MONTAGES: dict[str, tuple[str, ...]] = {
    "double_banana": DOUBLE_BANANA,
    "bcic_iv_2a": (
        "C5-C1", "C3-Cz", "Cz-C4", "C2-C6", "Fz-C5", "C5-P1", "CP3-POz", "Fz-C1",
        "C1-Pz", "CP1-POz", "Fz-C2", "C2-Pz", "CP2-POz", "Fz-C6", "C6-P2", "CP4-POz",
    ),
    "bcic_iv_2a_monopolar": (
        "Fz", "FC3", "FC1", "FCz", "FC2", "FC4", "C5", "C3", "C1", "Cz", "C2",
        "C4", "C6", "CP3", "CP1", "CPz", "CP2", "CP4", "P1", "Pz", "P2", "POz",
    ),
    "bcic_iv_2b": ("C3-Cz", "Cz-C4"),
    "bcic_iv_2b_monopolar": ("C3", "Cz", "C4"),
    "seed_v": (
        "Fp1", "Fp2", "F7", "F3", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "P4", "P8", "O1", "O2",
    ),
    "sleep_edfx": ("Fpz-Cz", "Pz-Oz"),
}
# fmt: on

LOBES = ("frontal", "parietal", "occipital", "temporal left", "temporal right")
# Channel numbers of each group (docs/model.md section 8). Montages without an entry follow LOBES by their electrodes.
MONTAGE_LOBES: dict[str, tuple[tuple[int, ...], ...]] = {
    "double_banana": ((0, 4, 12, 16), (8, 9, 10, 11, 13, 14, 17, 18), (3, 7, 15, 19), (1, 2, 8), (5, 6, 11)),
    "bcic_iv_2a": ((4, 7, 10, 13), (0, 1, 2, 3), (5, 6, 8, 9), (11, 12, 14, 15)),
    "bcic_iv_2b": ((0,), (1,)),
    "bcic_iv_2b_monopolar": ((0,), (1,), (2,)),
    "seed_v": (tuple(range(6)), tuple(range(6, 11)), tuple(range(11, 17))),
}

# Head frame (docs/model.md section 3): p = rint((position - origin) * scale), metres to grid units.
HEAD_ORIGIN = np.array([-0.0782977, -0.0956184, -0.0107450])
HEAD_SCALE = 296.5765
# Centre of the sphere that MNE's fit_sphere_to_headshape puts through TEN_TWENTY, in metres like positions.
HEAD_CENTRE = np.array([0.0006, -0.0210, 0.0113])
# Montage frame (docs/model.md section 3), the authors' own: the largest coordinate of a montage becomes this.
MONTAGE_FRAME_EXTENT = 49
# The pair that the released code takes instead of one of its montage (docs/model.md section 3).
AUTHORS_SLIP = {"double_banana": {"Fp1-F3": "Fp2-F3"}}


def positions_of(channels: Sequence[str]) -> np.ndarray:
    """Template positions in metres, right / front / up, `[C, 3]`; a pair lies at the midpoint of its electrodes."""
    places = [[POSITIONS.get(name) or NET_POSITIONS[name] for name in channel.split("-")] for channel in channels]
    return np.array([np.mean(ends, axis=0) for ends in places]) / 1000


def grid_positions(channels: Sequence[str], frame: str = "head", montage: str | None = None) -> np.ndarray:
    """
    Coordinates for the model's spatial encoding, `[C, 3]`, integers as float32 (docs/model.md section 3).

    Args:
        channels: canonical electrodes, sites of nets, or pairs.
        frame: `"head"`, where an electrode has the same coordinates in every montage, or `"montage"`, the authors'
            rescaling, where they depend on the other channels.
        montage: name of the channels' montage; frame `"montage"` repeats the released code's slip in it.
    """
    if frame == "head":
        grid = (positions_of(channels) - HEAD_ORIGIN) * HEAD_SCALE
    else:
        slip = AUTHORS_SLIP.get(montage, {})
        grid = positions_of([slip.get(channel, channel) for channel in channels])
        grid = grid - grid.min(axis=0)
        extent = grid.max()
        grid = grid * (MONTAGE_FRAME_EXTENT / extent if extent > 0 else 0.0)
    return np.rint(grid).astype(np.float32)


def lobe_membership(channels: Sequence[str], montage: str | None = None) -> np.ndarray:
    """
    Which lobes each channel belongs to, bool `[C, lobes]` (docs/model.md section 8): the groups of a named montage, or
    else one of the five [`LOBES`] for each electrode; a pair, or a site of a net, belongs to the lobe of the nearest
    electrode.
    """
    if montage in MONTAGE_LOBES:
        groups = MONTAGE_LOBES[montage]
        return np.array([[index in group for group in groups] for index in range(len(channels))])
    names, places = list(POSITIONS), np.array(list(POSITIONS.values())) / 1000
    # an electrode is nearest to itself
    distances = np.linalg.norm(positions_of(channels)[:, None] - places, axis=-1)
    return np.eye(len(LOBES), dtype=bool)[[_lobe_of_electrode(names[k]) for k in distances.argmin(axis=1)]]


def _lobe_of_electrode(electrode: str) -> int:
    """Number in LOBES, by the letters of the name; central and parietal rows reach out to F7 and F8 only."""
    row = re.match(r"[A-Z]+[a-z]?(?=[\dz])", electrode).group().rstrip("h").upper()
    x = POSITIONS[electrode][0]
    temporal = LOBES.index("temporal left" if x < 0 else "temporal right")
    if row in ("N", "FP", "AFP", "AF", "AFF", "F"):
        return LOBES.index("frontal")
    if row in ("PPO", "PO", "POO", "O", "OI", "I"):
        return LOBES.index("occipital")
    if row in ("FFC", "FC", "FCC", "C", "CCP", "CP", "CPP", "P"):
        border = POSITIONS["F7" if x < 0 else "F8"][0]
        return temporal if abs(x) >= abs(border) else LOBES.index("parietal")
    return temporal  # FFT to TPP, mastoids and ear lobes


__all__ = [
    "HEAD_CENTRE",
    "LOBES",
    "MONTAGES",
    "MONTAGE_LOBES",
    "POSITIONS",
    "TEN_TWENTY",
    "grid_positions",
    "lobe_membership",
    "positions_of",
    "resolve_channel",
]
