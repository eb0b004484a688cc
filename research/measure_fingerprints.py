"""
How well fingerprints of recordings tell the same signal from other people's.

    python research/measure_fingerprints.py --data DATA

Compares every recording of the folder with every other person's (false alarms), and some recordings of each set with
themselves, changed as users change them (misses). Writes `research/results/fingerprints.json`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

import mne
import numpy as np
import pandas as pd
from prepare_corpus import REPEATED, TRIAL_SECONDS, TRIALS_SET, read_rows
from transformers import HfArgumentParser
from transformers.utils.logging import tqdm

from neuript_hf.checkpoints.provenance import provenance
from neuript_hf.data.atomic import write_json
from neuript_hf.data.fingerprints import (
    BREAK,
    COURSE_RATE,
    SAME_SIGNAL,
    WORD_FRAMES,
    fingerprint,
    spectral_course,
    word_scores,
)
from neuript_hf.data.manifest import open_row
from neuript_hf.recordings import recording_from_array


SEED = 0
QUANTILES = {"median": 0.5, "99 %": 0.99, "99.9 %": 0.999, "largest": 1.0}


@dataclass
class MeasureArguments:
    """The recordings, and where the numbers go."""

    data: str = field(metadata={"help": "Folder with manifest.csv and pretraining/manifest.jsonl."})
    output: str = field(default="research/results/fingerprints.json", metadata={"help": "Result file."})
    recordings_per_set: int = field(default=12, metadata={"help": "Recordings of each set that are changed."})


def all_rows(data: Path) -> pd.DataFrame:
    """Every recording of the folder, of all splits, that no other repeats; rows for [`open_row`]."""
    unlabelled = read_rows(data)["pretraining"]
    labelled = pd.read_csv(data / "manifest.csv", dtype=str, keep_default_na=False)
    labelled = labelled[~labelled["set"].isin(REPEATED)][["file", "set", "subject"]]
    labelled["trial_seconds"] = np.where(labelled["set"] == TRIALS_SET, str(TRIAL_SECONDS), "")
    rows = pd.concat([unlabelled, labelled], ignore_index=True).astype(object)
    rows = rows.where(rows.notna(), "")
    return rows.assign(path=[str(data / file) for file in rows["file"]])


def false_alarms(rows: pd.DataFrame, courses: list[np.ndarray]) -> dict:
    """Best scores of every recording's course with the words of all other people."""
    texts = [fingerprint(course) + BREAK for course in courses]
    people, files = rows["subject"].to_numpy(), rows["file"].to_list()
    owners = np.repeat(np.arange(len(texts)), [len(text) // len(BREAK) for text in texts])
    best, partners = np.zeros(len(courses)), np.zeros(len(courses), dtype=int)
    for number, course in enumerate(tqdm(courses, desc="Other people")):
        scores = word_scores(course, "".join(texts))
        scores[people[owners] == people[number]] = 0
        best[number], partners[number] = scores.max(), owners[scores.argmax()]
    ranked = np.argsort(best)[::-1]
    seconds = sum(map(len, courses)) / COURSE_RATE
    return {
        "people": len(set(people)),
        "recordings": len(courses),
        "hours": round(seconds / 3600, 2),
        "words": sum(
            text[start : start + len(BREAK)] != BREAK for text in texts for start in range(0, len(text), len(BREAK))
        ),
        "places": sum(max(0, len(course) - WORD_FRAMES + 1) for course in courses),
        "characters_per_hour": round(sum(map(len, texts)) / seconds * 3600),
        "same_signal": SAME_SIGNAL,
        "false_alarms": int((best >= SAME_SIGNAL).sum()),
        "best_score": {name: round(float(np.quantile(best, share)), 3) for name, share in QUANTILES.items()},
        "largest": [[files[k], files[partners[k]], round(best[k], 3)] for k in ranked[:10]],
    }


def changes() -> dict[str, Callable[[np.ndarray, float], tuple[np.ndarray, float]]]:
    """What users do to a signal `[C, T]` in microvolts at a rate: name -> function that returns signal and rate."""

    def filtered(l_freq, h_freq, **options):
        def change(signal, rate):
            border = h_freq if h_freq is None or h_freq < 0.45 * rate else None
            options_here = {"method": "fir", "phase": "zero"} | options
            return mne.filter.filter_data(signal, rate, l_freq, border, verbose="ERROR", **options_here), rate

        return change

    def resampled(new):
        return lambda signal, rate: (mne.filter.resample(signal, new, rate, verbose="ERROR"), new)

    def some_channels(share):
        def change(signal, rate):
            count = max(2, round(share * len(signal)))
            return signal[np.random.default_rng(SEED).permutation(len(signal))[:count]], rate

        return change

    def cropped(start, seconds=None):
        def change(signal, rate):
            stop = None if seconds is None else round((start + seconds) * rate)
            return signal[:, round(start * rate) : stop], rate

        return change

    def chain(*steps):
        def change(signal, rate):
            for step in steps:
                signal, rate = step(signal, rate)
            return signal, rate

        return change

    iir = {"method": "iir", "iir_params": {"order": 4, "ftype": "butter"}}
    average = lambda signal, rate: (signal - signal.mean(axis=0), rate)  # noqa: E731
    return {
        "another unit, turned over": lambda signal, rate: (-1e-3 * signal, rate),
        "rounded to 1 microvolt": lambda signal, rate: (np.rint(signal), rate),
        "250 Hz": resampled(250.0),
        "100 Hz": resampled(100.0),
        "0.5 to 40 Hz": filtered(0.5, 40.0),
        "1 to 30 Hz": filtered(1.0, 30.0),
        "1 to 30 Hz, forward only": filtered(1.0, 29.0, **iir, phase="forward"),
        "8 to 30 Hz": filtered(8.0, 30.0),
        "1 to 15 Hz": filtered(1.0, 15.0),
        "the first 2.37 s cut off": cropped(2.37),
        "12 s of it": cropped(3.3, 12.0),
        "average reference": average,
        "one channel as reference": lambda signal, rate: (signal[1:] - signal[0], rate),
        "bipolar chain": lambda signal, rate: (signal[:-1] - signal[1:], rate),
        "2 channels left out": lambda signal, rate: (signal[: max(2, len(signal) - 2)], rate),
        "half of the channels": some_channels(0.5),
        "a quarter of the channels": some_channels(0.25),
        "loudest channel left out": lambda signal, rate: (
            np.delete(signal, signal.std(axis=1).argmax(), axis=0),
            rate,
        ),
        "200 Hz, 1 to 30 Hz, average, cropped, 3/4 of the channels": chain(
            cropped(2.37), filtered(1.0, 30.0), resampled(200.0), some_channels(0.75), average
        ),
    }


def misses(rows: pd.DataFrame, per_set: int) -> pd.DataFrame:
    """
    For some recordings of each set and each change: the best score of the recording's words with the changed signal,
    and the share of its words that are found in it.
    """
    results = []
    for row in tqdm(
        rows.groupby("set").sample(frac=1, random_state=SEED).groupby("set").head(per_set).to_dict("records")
    ):
        source = open_row(row)
        channels = [number for number, kind in enumerate(source.types) if kind == "eeg"]
        words = fingerprint(spectral_course(source))
        if not words:
            continue
        signal, rate = source.read(channels, 0, source.segments[-1].stop), source.sampling_rate
        for name, change in changes().items():
            changed, new_rate = change(signal, rate)
            names = [f"E{number}" for number in range(len(changed))]
            course = spectral_course(recording_from_array(changed, new_rate, names, 1.0, "uV"))
            scores = word_scores(course, words)
            known = {"set": row["set"], "channels": len(channels), "seconds": signal.shape[-1] / rate, "change": name}
            results.append(known | {"score": scores.max(), "words": (scores >= SAME_SIGNAL).mean()})
    return pd.DataFrame(results)


def summary(found: pd.DataFrame) -> dict:
    """For each change: the share of recordings that are missed, median score, share of words found; by length."""
    groups = {"below 30 s": found["seconds"] < 30, "30 s and more": found["seconds"] >= 30}
    return {
        group: {
            "recordings": int((found[chosen]["change"] == found["change"].iloc[0]).sum()),
            "changes": {
                name: {
                    "missed": round(float((rows["score"] < SAME_SIGNAL).mean()), 3),
                    "median_score": round(float(rows["score"].median()), 3),
                    "words_found": round(float(rows["words"].mean()), 3),
                }
                for name, rows in found[chosen].groupby("change", sort=False)
            },
        }
        for group, chosen in groups.items()
    }


def cost() -> dict:
    """Seconds of one core for 10 minutes of signal."""
    timed = {}
    for channels in (4, 19, 64):
        signal = np.random.default_rng(SEED).normal(size=(channels, 600 * 250)).cumsum(axis=1)
        recording = recording_from_array(signal, 250.0, [str(number) for number in range(channels)], 1.0, "uV")
        begin = process_time()
        fingerprint(spectral_course(recording))
        timed[f"{channels} channels, 250 Hz"] = round(process_time() - begin, 2)
    return timed


def main():
    (arguments,) = HfArgumentParser(MeasureArguments).parse_args_into_dataclasses()
    rows = all_rows(Path(arguments.data).resolve())
    courses = [spectral_course(open_row(row)) for row in tqdm(rows.to_dict("records"), desc="Courses")]
    results = {
        "provenance": provenance(),
        "seconds_for_10_minutes": cost(),
        "other_people": false_alarms(rows, courses),
        "same_recording": summary(misses(rows, arguments.recordings_per_set)),
    }
    write_json(arguments.output, results)
    print(pd.DataFrame(results["other_people"]["best_score"], index=["best score"]).to_string())
    for group, part in results["same_recording"].items():
        print(f"\n{group}, {part['recordings']} recordings\n{pd.DataFrame(part['changes']).T.to_string()}")


if __name__ == "__main__":
    main()
