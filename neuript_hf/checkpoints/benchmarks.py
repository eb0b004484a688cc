"""Public benchmarks that share recordings or people with the data sets of a training."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..data.people import dataset_key


@dataclass(frozen=True)
class BenchmarkOverlap:
    """
    A public benchmark that shares data with a training.

    Args:
        benchmark: its usual name.
        datasets: data sets of a training; any of them makes the overlap.
        relation: what they share.
    """

    benchmark: str
    datasets: tuple[str, ...]
    relation: str


SAME_RECORDINGS = "the same recordings"
SAME_HOSPITAL = "the same parent corpus: patients may recur, compare their numbers"
SAME_LABORATORY = "the same laboratory's series: people may recur"
TUH = ("tuar", "tuep", "tusl", "tusz")
# The paper leaves out its eight downstream sets by name, not by person.
BENCHMARK_OVERLAPS = (
    BenchmarkOverlap("PhysioNet-MI", ("eegmmidb", "eegmmidb_mi", "physionet_mi"), SAME_RECORDINGS),
    BenchmarkOverlap("KaggleERN / Inria BCI Challenge", ("inria_bci_challenge",), SAME_RECORDINGS),
    BenchmarkOverlap("Siena", ("siena",), SAME_RECORDINGS),
    BenchmarkOverlap("bi2015a (MOABB)", ("target_non_target",), SAME_RECORDINGS),
    BenchmarkOverlap("Grasp-and-Lift", ("grasp_and_lift",), SAME_RECORDINGS),
    BenchmarkOverlap("SEED", ("seed_series",), SAME_RECORDINGS),
    BenchmarkOverlap("SEED-IV", ("seed_series",), SAME_RECORDINGS),
    BenchmarkOverlap("SEED-V", ("seed_series",), SAME_LABORATORY),
    BenchmarkOverlap("TUAR", ("tuar",), SAME_RECORDINGS),
    BenchmarkOverlap("TUEP", ("tuep",), SAME_RECORDINGS),
    BenchmarkOverlap("TUSL", ("tusl",), SAME_RECORDINGS),
    BenchmarkOverlap("TUSZ", ("tusz",), SAME_RECORDINGS),
    BenchmarkOverlap("TUAB", TUH, SAME_HOSPITAL),
    BenchmarkOverlap("TUEV", TUH, SAME_HOSPITAL),
    BenchmarkOverlap("MentalArithmetic", ("eegmat", "mental_arithmetic"), SAME_RECORDINGS),
    BenchmarkOverlap("Kalunga2016 (MOABB)", ("ssvep_exo",), SAME_RECORDINGS),
)


def overlapping_benchmarks(datasets: Iterable[str]) -> list[BenchmarkOverlap]:
    """
    The public benchmarks on which weights must not be called tested on unseen people.

    Args:
        datasets: names of the data sets of a training, as in `data/descriptions` or in a training record.
    """
    seen = {dataset_key(name) for name in datasets}
    return [overlap for overlap in BENCHMARK_OVERLAPS if seen & {dataset_key(name) for name in overlap.datasets}]


__all__ = ["BENCHMARK_OVERLAPS", "SAME_RECORDINGS", "BenchmarkOverlap", "overlapping_benchmarks"]
