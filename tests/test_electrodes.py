"""Positions, montages and lobes: the tables against MNE, golden coordinates."""

import mne
import numpy as np
import pytest
from conftest import ten_five_template
from scipy.spatial.transform import Rotation

from neuript_hf.caps import NET_POSITIONS, NETS
from neuript_hf.electrodes import (
    LOBES,
    MONTAGE_LOBES,
    MONTAGES,
    POSITIONS,
    TEN_TWENTY,
    grid_positions,
    lobe_membership,
    positions_of,
    resolve_channel,
)


DOUBLE_BANANA = MONTAGES["double_banana"]


NAMED = [name for name in TEN_TWENTY if name != "Cz"]
# The sites that EGI gives as equivalents of these 18.
EQUIVALENTS = {
    "GSN-HydroCel-32": (1, 2, 11, 3, 17, 4, 12, 13, 5, 6, 14, 15, 7, 19, 8, 16, 9, 10),
    "GSN-HydroCel-64_1.0": (10, 5, 18, 12, 6, 60, 58, 24, 20, 50, 52, 30, 28, 34, 42, 44, 35, 39),
    "GSN-HydroCel-128": (22, 9, 33, 24, 11, 124, 122, 45, 36, 104, 108, 58, 52, 62, 92, 96, 70, 83),
    "GSN-HydroCel-256": (37, 18, 47, 36, 21, 224, 2, 69, 59, 183, 202, 96, 87, 101, 153, 170, 116, 150),
    "EGI_256": (37, 18, 47, 36, 21, 224, 2, 69, 59, 183, 202, 96, 87, 101, 153, 170, 116, 150),
}
DENSE = ["biosemi128", "biosemi160", "biosemi256", *EQUIVALENTS]


def millimetres(montage: str) -> dict[str, np.ndarray]:
    """MNE's positions of a net."""
    places = mne.channels.make_standard_montage(montage).get_positions()["ch_pos"]
    return {name: np.asarray(place, dtype=float) * 1000 for name, place in places.items()}


def test_positions_are_mnes():
    template = ten_five_template()
    theirs = template["ch_pos"] | {"Nz": template["nasion"]}
    assert set(POSITIONS) == set(theirs) - {"T3", "T4", "T5", "T6"}
    for name, position in POSITIONS.items():
        np.testing.assert_allclose(np.array(position) / 1000, theirs[name], atol=1e-7)


def named_sites(net: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of sites with a 10-20 name in MNE's montage of a net, and in the table, millimetres `[n, 3]`."""
    if net.startswith("biosemi"):
        known = millimetres("biosemi64")
        return np.array(list(known.values())), np.array([POSITIONS[name] for name in known])
    places = millimetres(net)
    sites = np.array([places[f"E{number}"] for number in EQUIVALENTS[net]])
    return sites, np.array([POSITIONS[name] for name in NAMED])


@pytest.mark.parametrize("net", DENSE)
def test_nets_are_mnes_after_a_rigid_motion(net):
    """Every site, to the rounding; the motion is the one that brings the named sites nearest to their names."""
    source, target = named_sites(net)
    rotation, _ = Rotation.align_vectors(target - target.mean(axis=0), source - source.mean(axis=0))
    theirs = {label: place for label, place in millimetres(net).items() if label != "Cz"}
    sites = [NETS[net][label] for label in theirs]
    moved = rotation.apply(np.array(list(theirs.values())) - source.mean(axis=0)) + target.mean(axis=0)
    np.testing.assert_allclose(np.array([NET_POSITIONS[site] for site in sites]), moved, atol=0.51)
    assert len(set(sites)) == len(sites) == sum(site.endswith("@" + net.replace("-", "")) for site in NET_POSITIONS)


@pytest.mark.parametrize("net", DENSE)
def test_named_sites_lie_at_their_names(net):
    """Closer than the distance between 10-20 electrodes (6 cm), on average closer than in 10-10 (3 to 4 cm)."""
    source, target = named_sites(net)
    if net.startswith("biosemi"):
        # A1 is the vertex of these caps
        assert np.linalg.norm(np.array(NET_POSITIONS[f"A1@{net}"]) - POSITIONS["Cz"]) < 10
        return
    sites = np.array([NET_POSITIONS[NETS[net][f"E{number}"]] for number in EQUIVALENTS[net]])
    distances = np.linalg.norm(sites - target, axis=1)
    assert distances.max() < 30 and distances.mean() < 13


@pytest.mark.parametrize("small", ["biosemi16", "biosemi32", "biosemi64"])
def test_small_caps_have_electrodes_in_mnes_order(small):
    names = mne.channels.make_standard_montage(small).ch_names
    labels = [f"{'AB'[number // 32]}{number % 32 + 1}" for number in range(len(names))]
    assert NETS[small] == dict(zip(labels, names, strict=True))


def test_every_net_of_mne_is_here():
    theirs = {net for net in mne.channels.get_builtin_montages() if net.startswith(("biosemi", "EGI", "GSN"))}
    assert set(NETS) == theirs
    for net in theirs:
        count = sum(label != "VREF" for label in NETS[net])
        assert count - len(mne.channels.make_standard_montage(net).ch_names) in (0, 1)  # 128 + the vertex


def test_golden_coordinates_of_the_head_frame():
    """docs/model.md section 3, to the integer."""
    golden = (
        "(8,47,0) (0,32,0) (0,15,1) (8,1,4) (38,48,0) (47,33,0) (47,15,1) (38,1,4) (1,24,11) (14,25,28) (33,25,27) "
        "(46,25,11) (11,49,8) (6,35,19) (6,15,21) (11,0,13) (35,49,8) (41,35,19) (41,15,21) (36,0,13)"
    )
    expected = [tuple(map(int, place.strip("()").split(","))) for place in golden.split()]
    assert [tuple(place) for place in grid_positions(DOUBLE_BANANA).astype(int)] == expected


def test_the_head_frame_contains_every_electrode():
    """The cap spans about -3..50, -7..55, -17..33 grid units."""
    grid = grid_positions(list(POSITIONS))
    assert grid.min(axis=0).tolist() == [-3, -7, -17] and grid.max(axis=0).tolist() == [50, 55, 33]


def test_montage_frame_with_the_authors_slip():
    """docs/model.md section 3: Fpz-Cz and Pz-Oz, and channel 13 (from 1) of double_banana computed from Fp2-F3."""
    assert grid_positions(MONTAGES["sleep_edfx"], "montage", "sleep_edfx").tolist() == [[0, 49, 0], [0, 0, 0]]
    with_slip = grid_positions(DOUBLE_BANANA, "montage", "double_banana")
    assert with_slip[12].tolist() == [20, 49, 8]
    others = np.arange(20) != 12
    np.testing.assert_array_equal(with_slip[others], grid_positions(DOUBLE_BANANA)[others])


def test_an_electrode_moves_with_its_montage_in_the_authors_frame_alone():
    for frame, same in (("head", True), ("montage", False)):
        alone = grid_positions(["C3", "Cz"], frame)[0]
        among = grid_positions(["C3", "Cz", "Fp2", "Oz"], frame)[0]
        assert np.array_equal(alone, among) == same


def test_a_pair_lies_at_its_midpoint():
    middle = (np.array(POSITIONS["Fp1"]) + np.array(POSITIONS["F7"])) / 2000
    np.testing.assert_allclose(positions_of(["Fp1-F7"])[0], middle)


def test_montages_are_those_of_the_paper():
    sizes = {"double_banana": 20, "bcic_iv_2a": 16, "bcic_iv_2a_monopolar": 22, "bcic_iv_2b": 2}
    sizes |= {"bcic_iv_2b_monopolar": 3, "seed_v": 17, "sleep_edfx": 2}
    assert {name: len(MONTAGES[name]) for name in sizes} == sizes
    for channels in MONTAGES.values():
        assert len(set(channels)) == len(channels)
        assert [resolve_channel(channel) for channel in channels] == list(channels)


@pytest.mark.parametrize("montage", MONTAGE_LOBES)
def test_named_lobes_leave_nobody_out(montage):
    lobes = lobe_membership(MONTAGES[montage], montage)
    assert lobes.shape == (len(MONTAGES[montage]), len(MONTAGE_LOBES[montage])) and lobes.any(axis=1).all()
    for number, group in enumerate(MONTAGE_LOBES[montage]):
        assert set(np.flatnonzero(lobes[:, number])) == set(group)


def test_two_channels_of_double_banana_have_two_lobes():
    assert np.flatnonzero(lobe_membership(DOUBLE_BANANA, "double_banana").sum(axis=1) == 2).tolist() == [8, 11]


def lobe(channel: str) -> str:
    (numbers,) = np.nonzero(lobe_membership([channel])[0])
    assert len(numbers) == 1
    return LOBES[numbers[0]]


LOBES_OF = {
    "frontal": "Fp1 F7 AF8 Fpz-Cz",
    "parietal": "FCz C3 P5 CCP2h C3-Cz",
    "occipital": "PO3 Iz PPO1h Pz-Oz",
    "temporal left": "C5 P7 TP9 F7-T7",
    "temporal right": "C6 P8 FT10",
}


def test_lobes_by_electrode():
    for expected, channels in LOBES_OF.items():
        assert {channel: lobe(channel) for channel in channels.split()} == dict.fromkeys(channels.split(), expected)


def test_lobes_of_sites_follow_their_places():
    """Sites with 10-20 names, and sites around the ears."""
    for net, numbers in EQUIVALENTS.items():
        for number, name in zip(numbers, NAMED, strict=True):
            if name not in ("F7", "F8", "Pz"):  # near the borders of their lobes
                assert lobe(NETS[net][f"E{number}"]) == lobe(name), (net, number)
    assert lobe("A1@biosemi128") == "parietal"
    assert (lobe("D23@biosemi128"), lobe("B26@biosemi128")) == ("temporal left", "temporal right")
    assert (lobe("C17@biosemi128"), lobe("A23@biosemi128")) == ("frontal", "occipital")


def test_lobes_mirror():
    """Left and right are alike, for every electrode of the table."""
    mirrored = {"temporal left": "temporal right", "temporal right": "temporal left"}
    for name in POSITIONS:
        digits = "".join(filter(str.isdigit, name))
        if not digits:
            continue
        number = int(digits)
        opposite = name.replace(digits, str(number + 1 if number % 2 else number - 1))
        assert lobe(opposite) == mirrored.get(lobe(name), lobe(name)), (name, opposite)
