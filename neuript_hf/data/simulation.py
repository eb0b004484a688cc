"""
Labelled EEG of imagined hand movements, simulated with MNE from dipoles in a spherical head; seeded, no download.

People differ in head size, in the positions and orientations of their sources, in the frequency and strength of their
rhythms, and in noise. Imagining a movement of one hand weakens the mu rhythm over the opposite hemisphere. To
distinguish the hands, a model needs space (which side) and frequency (9 to 13 Hz, close to the posterior alpha).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from transformers.utils.logging import tqdm

from ..electrodes import TEN_TWENTY
from .atomic import atomic_write


CLASS_NAMES = ("left_hand", "right_hand")

# The sphere that best fits the electrodes of MNE's montage (least squares), in metres, in head coordinates.
SPHERE_CENTRE = np.array([0.0, 0.015, 0.04])
SPHERE_RADIUS = 0.0985
# Sources lie under these electrodes, left before right.
MU_SITES = ("C3", "C4")
ALPHA_SITES = ("O1", "Oz", "O2", "P3", "P4")
EYE_SITES = ("Fp1", "Fp2")
BACKGROUND_DIPOLES = 300

LEAD_IN_SECONDS = 3.0
REST_SECONDS = (1.5, 2.5)
BLINK_SECONDS = 0.35
# How long a rhythm takes to weaken and to recover.
DESYNCHRONISATION_RAMP_SECONDS = 1.0
# Weakening on the side of the imagined hand, as a share of that on the opposite side.
IPSILATERAL_SHARE = 0.35


@dataclass(frozen=True)
class _Person:
    """What differs between people: frequencies in hertz, dipole moments in nanoampere metres (root mean square)."""

    head_scale: float
    alpha_frequency: float
    alpha_moment: float
    mu_frequency: float
    mu_moments: np.ndarray  # [2], left and right hemisphere
    desynchronisation: float  # share of the mu rhythm that imagining suppresses, on average
    background_moment: float
    background_slope: float  # power falls with frequency ** -slope
    blink_moment: float  # at the peak
    blinks_per_minute: float
    sensor_noise: float  # microvolts

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Person":
        return cls(
            head_scale=rng.uniform(0.93, 1.07),
            alpha_frequency=rng.uniform(8.5, 11.5),
            alpha_moment=rng.uniform(15.0, 45.0),
            mu_frequency=rng.uniform(9.5, 12.0),
            mu_moments=rng.uniform(32.0, 52.0) * np.exp(rng.normal(0.0, 0.1, size=2)),
            desynchronisation=rng.uniform(0.35, 0.65),
            background_moment=rng.uniform(12.0, 20.0),
            background_slope=rng.uniform(0.9, 1.4),
            blink_moment=rng.uniform(350.0, 700.0),
            blinks_per_minute=rng.uniform(6.0, 20.0),
            sensor_noise=rng.uniform(0.5, 1.5),
        )


def simulate_recording(
    subject: int,
    seed: int = 0,
    *,
    n_trials: int = 40,
    trial_seconds: float = 4.0,
    sampling_rate: float = 200.0,
    channel_names: Sequence[str] = TEN_TWENTY,
) -> mne.io.RawArray:
    """
    One person imagines movements of the left and the right hand, with rests between.

    The signal is the sum of a 1/f background from dipoles all over the brain, a posterior alpha rhythm, the mu rhythms
    of both hemispheres, blinks and sensor noise. Potentials are relative to infinity.

    Args:
        subject: number of the person. The same arguments give the same recording to the last bit; the same
            `(seed, subject)` is the same person whatever the other arguments are.
        seed: number of the population.
        n_trials: number of imagined movements, in random order; half of them (one more if odd) of the left hand.
        trial_seconds: length of a trial.
        sampling_rate: in hertz.
        channel_names: electrodes, as MNE's 10-05 montage spells them.

    Returns:
        A recording in volts with its montage, an annotation `"left_hand"` or `"right_hand"` of `trial_seconds` for
        each trial, and the person in `info["subject_info"]`.

    Raises:
        ValueError: if an electrode is unknown, `subject` or `seed` is negative, there is no trial, a trial is shorter
            than a second, or the sampling rate is below 64 Hz.
    """
    if subject < 0 or seed < 0:
        raise ValueError(f"subject and seed must be 0 or more, but are {subject} and {seed}.")
    if n_trials < 1 or trial_seconds < 1:
        raise ValueError(f"Expected one trial or more, of a second or more, but got {n_trials} of {trial_seconds} s.")
    if sampling_rate < 64:
        raise ValueError(f"sampling_rate must be 64 Hz or more, but is {sampling_rate} Hz.")

    # The person is drawn first: later draws depend on the length of the recording, the person must not.
    rng = np.random.default_rng([seed, subject])
    person = _Person.draw(rng)
    montage = _montage(person.head_scale)
    unknown = sorted(set(channel_names) - set(montage.ch_names))
    if unknown:
        raise ValueError(f"Expected electrodes of MNE's 10-05 montage, such as C3, but got {unknown}.")
    info = mne.create_info(list(channel_names), sampling_rate, "eeg", verbose="ERROR").set_montage(montage)
    info["subject_info"] = {"id": subject, "his_id": _subject_name(subject)}
    background_field = _lead_field(info, person, *_dipoles_in_brain(rng, person, BACKGROUND_DIPOLES))
    mu_field = _lead_field(info, person, *_dipoles_below(rng, person, montage, MU_SITES, depth=0.75))
    alpha_field = _lead_field(info, person, *_dipoles_below(rng, person, montage, ALPHA_SITES, depth=0.7))
    eye_field = _lead_field(info, person, *_dipoles_below(rng, person, montage, EYE_SITES, depth=0.8))

    labels = rng.permutation(np.arange(n_trials) % 2)
    rests = rng.uniform(*REST_SECONDS, size=n_trials)
    onsets = LEAD_IN_SECONDS + np.cumsum(trial_seconds + rests) - (trial_seconds + rests[0])
    starts = np.round(onsets * sampling_rate).astype(int)
    # A whole number of seconds, since Fourier transforms of other lengths can be slow.
    n_samples = round(np.ceil(onsets[-1] + trial_seconds + LEAD_IN_SECONDS) * sampling_rate)

    def noise(n_signals: int, spectrum: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return _coloured_noise(rng, (n_signals, n_samples), sampling_rate, spectrum)

    background = noise(BACKGROUND_DIPOLES, lambda f: np.maximum(f, 0.5) ** (-person.background_slope / 2))
    # Noise in a narrow band is an oscillation that waxes and wanes over seconds.
    alpha = noise(len(ALPHA_SITES), lambda f: np.exp(-0.5 * ((f - person.alpha_frequency) / 0.5) ** 2))
    mu = noise(len(MU_SITES), lambda f: np.exp(-0.5 * ((f - person.mu_frequency) / 0.5) ** 2))
    mu *= _mu_gain(rng, person, labels, starts, round(trial_seconds * sampling_rate), n_samples, sampling_rate)
    blinks = np.tile(_blinks(rng, person, n_samples, sampling_rate), (len(EYE_SITES), 1))

    nanovolts = (
        background_field @ (person.background_moment * background)
        + alpha_field @ (person.alpha_moment * alpha)
        + mu_field @ (person.mu_moments[:, None] * mu)
        + eye_field @ (person.blink_moment * blinks)
    )
    nanovolts += 1e3 * person.sensor_noise * rng.standard_normal(nanovolts.shape)
    raw = mne.io.RawArray(1e-9 * nanovolts, info, verbose="ERROR")
    names = [CLASS_NAMES[label] for label in labels]
    return raw.set_annotations(mne.Annotations(starts / sampling_rate, trial_seconds, names))


def simulate_dataset(
    folder: str | Path, n_subjects: int = 10, seed: int = 0, *, overwrite: bool = False, **recording_settings
) -> Path:
    """
    Writes simulated recordings to `folder`: `sub-01_raw.fif` and so on, and a `manifest.csv` for `load_recordings`.

    The manifest has the columns `file`, `subject`, `split` (a fifth of the people, at least one, in `val` and in
    `test`, the others in `train`) and `events` (annotation names -> classes, in JSON).

    Args:
        folder: where to write; it need not exist.
        n_subjects: number of people.
        seed: number of the population.
        overwrite: replace an existing manifest, and recordings of the same names.
        recording_settings: further arguments of [`simulate_recording`].

    Returns:
        Path of the manifest.

    Raises:
        ValueError: for fewer than three people (one for each split), and as [`simulate_recording`].
        FileExistsError: if the folder has a manifest and `overwrite` is false.
    """
    if n_subjects < 3:
        raise ValueError(f"n_subjects must be 3 or more, one person for each split, but is {n_subjects}.")
    manifest = Path(folder) / "manifest.csv"
    if manifest.exists() and not overwrite:
        raise FileExistsError(f"{manifest} exists already. Give another folder, or overwrite=True to replace it.")

    held_out = max(1, round(0.2 * n_subjects))
    splits = ["train"] * (n_subjects - 2 * held_out) + ["val"] * held_out + ["test"] * held_out
    events = json.dumps({name: name for name in CLASS_NAMES})
    rows = []
    for subject, split in enumerate(tqdm(splits, desc="Simulating", unit="person"), start=1):
        file = f"{_subject_name(subject)}_raw.fif"
        with atomic_write(manifest.with_name(file)) as partial:
            simulate_recording(subject, seed, **recording_settings).save(partial, verbose="ERROR")
        rows.append({"file": file, "subject": _subject_name(subject), "split": split, "events": events})
    with atomic_write(manifest) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False)
    return manifest


def _subject_name(subject: int) -> str:
    return f"sub-{subject:02d}"


def _montage(head_scale: float) -> mne.channels.DigMontage:
    """MNE's 10-05 electrodes in head coordinates, scaled to a head of another size; in metres."""
    # MNE 1.13 renamed the montage, and warns about the old name.
    renamed = "colin27_1005" in mne.channels.get_builtin_montages()
    standard = mne.channels.make_standard_montage("colin27_1005" if renamed else "standard_1005")
    positions = mne.channels.transform_to_head(standard).get_positions()
    return mne.channels.make_dig_montage(
        ch_pos={name: head_scale * position for name, position in positions["ch_pos"].items()},
        **{name: head_scale * positions[name] for name in ("nasion", "lpa", "rpa")},
        coord_frame="head",
    )


def _dipoles_in_brain(rng: np.random.Generator, person: _Person, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random dipoles: positions `[count, 3]` in metres, and directions, unit vectors `[count, 3]`."""
    # The cube root makes the density uniform in the ball.
    depths = 0.8 * np.cbrt(rng.uniform(0.02, 1.0, size=(count, 1)))
    positions = SPHERE_CENTRE + SPHERE_RADIUS * depths * _unit(rng.standard_normal((count, 3)))
    return person.head_scale * positions, _unit(rng.standard_normal((count, 3)))


def _dipoles_below(
    rng: np.random.Generator, person: _Person, montage: mne.channels.DigMontage, sites: Sequence[str], depth: float
) -> tuple[np.ndarray, np.ndarray]:
    """One dipole below each electrode, at `depth` (share of the radius), shifted and tilted at random."""
    electrodes = np.array([montage.get_positions()["ch_pos"][site] for site in sites])
    outward = _unit(electrodes - person.head_scale * SPHERE_CENTRE)
    directions = _unit(outward + rng.normal(0.0, 0.08, size=outward.shape))
    positions = person.head_scale * (SPHERE_CENTRE + depth * SPHERE_RADIUS * directions)
    return positions, _unit(outward + rng.normal(0.0, 0.25, size=outward.shape))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _lead_field(info: mne.Info, person: _Person, positions: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """Potential at each electrode for each dipole, `[n_channels, n_dipoles]` in volts per ampere metre."""
    sphere = mne.make_sphere_model(
        person.head_scale * SPHERE_CENTRE, person.head_scale * SPHERE_RADIUS, verbose="ERROR"
    )
    one = np.ones(len(positions))
    dipoles = mne.Dipole(times=0 * one, pos=positions, amplitude=one, ori=orientations, gof=one, verbose="ERROR")
    forward, _ = mne.make_forward_dipole(dipoles, sphere, info, verbose="ERROR")
    return forward["sol"]["data"]


def _coloured_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    sampling_rate: float,
    spectrum: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Independent Gaussian signals `[n_signals, n_samples]` of root mean square 1; `spectrum`: hertz -> amplitude."""
    white = np.fft.rfft(rng.standard_normal(shape))
    signals = np.fft.irfft(white * spectrum(np.fft.rfftfreq(shape[1], 1 / sampling_rate)), n=shape[1])
    return signals / np.sqrt(np.mean(signals**2, axis=1, keepdims=True))


def _mu_gain(
    rng: np.random.Generator,
    person: _Person,
    labels: np.ndarray,
    starts: np.ndarray,
    trial_samples: int,
    n_samples: int,
    sampling_rate: float,
) -> np.ndarray:
    """Strength of the mu rhythm in the left and the right hemisphere, `[2, n_samples]`, 1 at rest."""
    lost = np.zeros((len(MU_SITES), n_samples))
    for label, start in zip(labels, starts, strict=True):
        trial = slice(start, start + trial_samples)
        # People do not succeed equally well each time.
        depth = np.clip(rng.normal(person.desynchronisation, 0.2), 0.0, 0.95)
        same_side, opposite = (0, 1) if CLASS_NAMES[label] == "left_hand" else (1, 0)
        lost[opposite, trial] = depth
        lost[same_side, trial] = IPSILATERAL_SHARE * depth
    ramp = np.hanning(round(DESYNCHRONISATION_RAMP_SECONDS * sampling_rate))
    return 1.0 - np.array([np.convolve(side, ramp / ramp.sum(), mode="same") for side in lost])


def _blinks(rng: np.random.Generator, person: _Person, n_samples: int, sampling_rate: float) -> np.ndarray:
    """Time course of the blinks, `[n_samples]`: bumps at random times, about 1 at the peak."""
    impulses = np.zeros(n_samples)
    count = rng.poisson(person.blinks_per_minute * n_samples / sampling_rate / 60)
    np.add.at(impulses, rng.integers(n_samples, size=count), rng.uniform(0.7, 1.3, size=count))
    return np.convolve(impulses, np.hanning(round(BLINK_SECONDS * sampling_rate)), mode="same")


__all__ = ["CLASS_NAMES", "simulate_dataset", "simulate_recording"]
