"""
Fingerprints of recordings: whether two files hold the same signal, whatever files, people and channels are called.

The *course* of a recording says how its spectrum changes: in six bands, 16 times a second, the log power of the
differences between channels, less its mean over the second around and over the bands. Differences do not change with
the reference, a gain or a filter only adds a constant to the logarithm, and the means take constants away. So unit,
polarity, rate, filter, reference and single channels matter little.

A *word* has the signs of the course at 64 times in 8 s: 384 bits, 48 bytes. A *fingerprint* is the words of a
recording, one every 8 s, as text (base64). It is looked for at every place of another recording's course, so cropping
does not matter; words that follow each other are looked for together, too. `SAME_SIGNAL` is above what other people's
words reach by chance (`research/measure_fingerprints.py`, docs/checkpoints.md).

The signal cannot be rebuilt: words have 48 bits a second for all channels together, without size, polarity or place;
the EEG has 64 numbers for each channel. But whoever has a recording can find out whether it was trained on.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import datasets
import numpy as np
import pandas as pd
from datasets import Dataset, Features, Value
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import convolve1d, uniform_filter1d
from scipy.signal import firwin, oaconvolve, resample_poly

from ..recordings import Recording
from .copies import PART_COLUMNS
from .manifest import last_change, open_row


# The course: samples a second, edges of the bands in hertz (most filters leave most of them), samples of one frame.
RATE, BORDERS, FRAME = 64, (2, 4.5, 7.5, 11, 15, 20, 26), 4
COURSE_RATE, BANDS = RATE // FRAME, len(BORDERS) - 1
KERNELS = np.stack([firwin(RATE + 1, band, fs=RATE, pass_zero=False) for band in pairwise(BORDERS)]).astype("float32")
# More pairs of channels add nothing.
MAX_PAIRS = 256
# Power that counts as none, as a share of the mean.
SILENT = 1e-4
# A word: its frames, and every how many there is a bit. Of a long recording words are taken evenly.
WORD_FRAMES, STEP, MAX_WORDS = 8 * COURSE_RATE, 2, 64
WORD_BYTES = BANDS * WORD_FRAMES // STEP // 8
# From this score on two signals are the same. Other people reach 0.66 in 27 hours of EEG.
SAME_SIGNAL = 0.75
# From this score on a word is too much like its own neighbourhood to tell anything: the signal repeats itself.
REPETITIVE = 0.5
# What stands between words that do not follow each other: no word has no sign above 0.
BREAK = base64.b64encode(bytes(WORD_BYTES)).decode()
# Words that follow each other and are compared together, at most.
LONGEST_RUN = 4
# Places and words that are compared at a time.
PLACES, WORDS = 4096, 512
# Words of each recording that the recordings of one table are compared by.
WORDS_IN_TABLE = 8
# Columns of a table that say how a recording is read.
READING_COLUMNS = ("path", "opened", "sampling_rate", "unit", "channel_names", "step", "trial_seconds", *PART_COLUMNS)
# Seconds that are worked on together, and the margin on both sides that their filters need.
_BLOCK, _MARGIN = 120, 2


def spectral_course(recording: Recording) -> np.ndarray:
    """
    How the spectrum of a recording changes, float32 `[frames, 6]`, 16 frames a second. Segments and pieces of 1 s and
    more follow each other, without the gaps between them. Frames without any signal are 0.
    """
    channels = [number for number, kind in enumerate(recording.types) if kind == "eeg"]
    courses = [np.empty((0, BANDS), dtype=np.float32)]
    for signal, first, count in _blocks(recording, channels) if channels else ():
        courses.append(_course(signal, recording.sampling_rate)[first : first + count])
    return np.concatenate(courses)


def _blocks(recording: Recording, channels: list[int]) -> Iterator[tuple[np.ndarray, int, int]]:
    """Stretches of signal `[C, T]` with the first of their frames that counts, and how many do."""
    rate = recording.sampling_rate
    pieces = recording.read_pieces(channels) if recording.in_pieces else None
    for number, segment in enumerate(recording.segments):
        samples = segment.stop - segment.start
        seconds = samples / rate + 1e-6
        for onset in range(0, int(seconds), _BLOCK):
            before = min(onset, _MARGIN)
            start, stop = round((onset - before) * rate), min(samples, round((onset + _BLOCK + _MARGIN) * rate))
            if pieces is None:
                signal = recording.read(channels, segment.start + start, segment.start + stop)
            else:
                signal = pieces[number][:, start:stop]
            count = min(_BLOCK * COURSE_RATE, int((seconds - onset) * COURSE_RATE))
            yield signal, before * COURSE_RATE, count


def _course(signal: np.ndarray, rate: float) -> np.ndarray:
    """The course of a stretch `[C, T]` at any rate, in any unit."""
    signal = np.nan_to_num(signal, posinf=0, neginf=0)
    signal = signal / np.abs(signal).max(initial=1e-30)  # broken files may have numbers of any size
    signal = signal - np.median(signal, axis=-1, keepdims=True)
    ratio = Fraction(RATE / rate).limit_denominator(1000)
    signal = resample_poly(signal, ratio.numerator, ratio.denominator, axis=-1).astype(np.float32)
    frames = signal.shape[-1] // FRAME
    course, silent = np.empty((BANDS, frames), dtype=np.float32), np.zeros(frames, dtype=bool)
    one, other = np.triu_indices(len(signal), 1)
    pairs = np.linspace(0, max(0, len(one) - 1), min(len(one), MAX_PAIRS)).astype(int)
    for band, kernel in enumerate(KERNELS):
        part = oaconvolve(signal, kernel[None], mode="same", axes=-1)[:, : frames * FRAME]
        if len(pairs):
            part = part[one[pairs]] - part[other[pairs]]
        power = np.square(part).reshape(len(part), frames, FRAME).sum(axis=-1)
        power = convolve1d(power, [0.25, 0.5, 0.25], axis=-1, mode="nearest")
        floor = SILENT * power.mean(axis=-1, keepdims=True) + np.finfo(np.float32).tiny
        silent |= (power < floor).all(axis=0)
        course[band] = np.log(power + floor).mean(axis=0)
    course -= uniform_filter1d(course, COURSE_RATE + 1, axis=-1, mode="nearest")
    course -= course.mean(axis=0)
    course[:, silent] = 0
    return course.T


def fingerprint(course: np.ndarray, max_words: int = MAX_WORDS) -> str:
    """
    The words of a course as text, 64 characters for each. A word with silence in it, and one that resembles its own
    neighbourhood, such as that of a periodic test signal, are replaced by `BREAK`. Of more than `max_words` words,
    some are taken, in runs of four. Empty where no word is left, as for less than 8 s of signal.
    """
    starts = range(0, len(course) - WORD_FRAMES + 1, WORD_FRAMES)
    words = [course[start : start + WORD_FRAMES] for start in starts]
    texts = [
        _text(word) if word.any(axis=-1).all() and not _repeats(course, start, word) else BREAK
        for start, word in zip(starts, words, strict=True)
    ]
    if len(texts) > max_words:
        first = np.linspace(0, len(texts) - LONGEST_RUN, max_words // LONGEST_RUN).astype(int)
        texts = [text for start in first for text in [*texts[start : start + LONGEST_RUN], BREAK]]
    return "".join(texts) if set(texts) - {BREAK} else ""


def _text(word: np.ndarray) -> str:
    """The signs of 8 s of a course as text."""
    return base64.b64encode(np.packbits(word[::STEP].T > 0)).decode()


def _repeats(course: np.ndarray, start: int, word: np.ndarray) -> bool:
    """Whether a word resembles the signal from 1 to 8 s before or after it."""
    before = course[max(0, start - WORD_FRAMES) : start + WORD_FRAMES - COURSE_RATE]
    after = course[start + COURSE_RATE : start + 2 * WORD_FRAMES]
    return any(word_scores(part, _text(word), reach=0).max() >= REPETITIVE for part in (before, after))


def word_scores(course: np.ndarray, text: str, reach: int = WORD_FRAMES // 2) -> np.ndarray:
    """
    How well words, and runs of two and four that begin with them, fit a course at their best place. The score of a
    word is the cosine of the angle between its signs and the course; 0 is chance. The score of a run is the sum over
    its words divided by the root of their number, which has the same distribution by chance.

    Args:
        course: what [`spectral_course`] returns.
        text: a fingerprint, or several with `BREAK` between them.
        reach: frames that words may reach beyond the ends of the course.

    Returns:
        float32, one score for each word; 0 for `BREAK`.
    """
    packed = np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(-1, WORD_BYTES)
    best = np.zeros(len(packed), dtype=np.float32)
    course = np.pad(course, [(reach, reach), (0, 0)])
    sizes = np.abs(course[course.any(axis=-1)])
    if len(course) < WORD_FRAMES or not len(sizes):
        return best
    # a few large changes must not count for everything
    course = np.clip(course / (np.median(sizes, axis=0) + np.finfo(np.float32).tiny), -1, 1)
    places = sliding_window_view(course, WORD_FRAMES, axis=0)[..., ::STEP]
    overlap = (LONGEST_RUN - 1) * WORD_FRAMES
    for first in range(0, max(1, len(places) - overlap), PLACES):
        part = places[first : first + PLACES + overlap].reshape(-1, 8 * WORD_BYTES)
        part = part / np.linalg.norm(part, axis=-1, keepdims=True).clip(1)
        for word in range(0, len(packed), WORDS):
            bits = np.unpackbits(packed[word : word + WORDS + LONGEST_RUN - 1], axis=-1)
            scores = part @ (bits.T.astype(np.float32) * 2 - 1) / np.sqrt(np.float32(8 * WORD_BYTES))
            scores[:, ~bits.any(axis=-1)] = -np.inf  # no run across a break
            length = 1
            while scores.size:
                found = scores.max(axis=0)[:WORDS] / np.sqrt(np.float32(length))
                best[word : word + len(found)] = np.maximum(best[word : word + len(found)], found)
                if length == LONGEST_RUN:
                    break
                scores = scores[: -length * WORD_FRAMES, :-length] + scores[length * WORD_FRAMES :, length:]
                length *= 2
    return best


def same_signal(course: np.ndarray, fingerprints: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """
    Whose recordings hold the same signal as a course.

    Args:
        course: what [`spectral_course`] returns.
        fingerprints: person -> the fingerprints of their recordings.

    Returns:
        Person -> best score, for everyone who reaches `SAME_SIGNAL`.
    """
    texts = ["".join(text + BREAK for text in texts) for texts in fingerprints.values()]
    scores = word_scores(course, "".join(texts))
    ends = np.cumsum([len(text) // len(BREAK) for text in texts])
    best = [part.max(initial=0) for part in np.split(scores, ends[:-1])] if texts else []
    return {person: float(score) for person, score in zip(fingerprints, best, strict=True) if score >= SAME_SIGNAL}


def recording_courses(table: pd.DataFrame) -> list[np.ndarray]:
    """
    The course of each recording of a table. `datasets` caches them, until a file changes.

    Args:
        table: rows as [`read_table`] returns them.

    Raises:
        ValueError: if a recording cannot be read; the message names its file.
    """
    rows = table[[name for name in READING_COLUMNS if name in table]].fillna("").to_dict("records")
    rows = [row | {"modified": last_change(row)} for row in rows]
    try:
        courses = Dataset.from_generator(
            _courses, features=Features({"course": Value("binary")}), gen_kwargs={"rows": rows}
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise error.__cause__ from None
    return [
        np.frombuffer(course, dtype=np.float16).reshape(-1, BANDS).astype(np.float32) for course in courses["course"]
    ]


def _courses(rows: list[dict]) -> Iterator[dict]:
    """A plain function with plain arguments, so that `datasets` can hash it."""
    for row in rows:
        try:
            course = spectral_course(open_row(row))
        except ValueError as error:
            raise ValueError(f"{row['path']}: {error}") from error
        yield {"course": course.astype(np.float16).tobytes()}


def same_recordings(courses: Sequence[np.ndarray]) -> list[tuple[int, int, float]]:
    """
    Which recordings hold the same signal, as pairs of their numbers with the score. Of long recordings some words are
    compared, so a short piece of one may be missed.
    """
    fingerprints = {str(number): [fingerprint(course, WORDS_IN_TABLE)] for number, course in enumerate(courses)}
    found = {}
    for number, course in enumerate(courses):
        for other, score in same_signal(course, fingerprints).items():
            if int(other) != number:
                pair = min(number, int(other)), max(number, int(other))
                found[pair] = max(score, found.get(pair, 0))
    return [(*pair, score) for pair, score in sorted(found.items())]


__all__ = [
    "SAME_SIGNAL",
    "fingerprint",
    "recording_courses",
    "same_recordings",
    "same_signal",
    "spectral_course",
    "word_scores",
]
