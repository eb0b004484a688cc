"""Masks of pre-training: exact counts, contiguous ranks, uniform choices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from neuript_hf.training.masking import SPAN_SAMPLES, hide_and_replace, select_by_amplitude, select_random_spans


def signal_of(channels=4, samples=128, seed=0):
    return np.random.default_rng(seed).normal(size=(channels, samples)).astype(np.float32)


@pytest.mark.parametrize("select", [select_by_amplitude, select_random_spans])
@given(
    channels=st.integers(1, 5), samples=st.integers(1, 90), ratio=st.floats(0.01, 1.0), seed=st.integers(0, 2**32 - 1)
)
def test_exactly_n_in_each_channel(select, channels, samples, ratio, seed):
    signal = signal_of(channels, samples, seed)
    selected = select(signal, ratio, np.random.default_rng(seed))
    assert (selected.sum(axis=-1) == round(ratio * samples)).all()


def test_amplitude_selection_is_contiguous_in_rank():
    signal = signal_of()
    selected = select_by_amplitude(signal, 0.35, np.random.default_rng(1))
    for channel, chosen in zip(signal, selected, strict=True):
        ranks = np.argsort(np.argsort(channel, kind="stable"))
        assert np.ptp(ranks[chosen]) == chosen.sum() - 1


def test_equal_values_are_ranked_in_order_of_time():
    """A flat channel: the sort is stable, so the selection is a stretch of time."""
    selected = select_by_amplitude(np.zeros((1, 40)), 0.5, np.random.default_rng(3))[0]
    assert np.ptp(np.flatnonzero(selected)) == 19


def test_the_quantile_is_uniform():
    """Away from the ends, the centre of the selected ranks is uniform."""
    signal = signal_of(2000, 200)
    selected = select_by_amplitude(signal, 0.1, np.random.default_rng(2))
    ranks = np.argsort(np.argsort(signal, axis=-1, kind="stable"), axis=-1)
    centres = np.array([rank[chosen].mean() for rank, chosen in zip(ranks, selected, strict=True)]) / 200
    inner = centres[(centres > 0.06) & (centres < 0.94)]
    assert kstest((inner - 0.06) / 0.88, "uniform").pvalue > 0.01
    assert len(inner) / len(centres) == pytest.approx(0.88, abs=0.03)


def test_channels_are_drawn_independently():
    signal = np.tile(signal_of(1, 200), (50, 1))
    selected = select_by_amplitude(signal, 0.2, np.random.default_rng(4))
    assert len({chosen.tobytes() for chosen in selected}) > 30


def test_random_selection_is_made_of_spans():
    selected = select_random_spans(np.zeros((200, 256)), 0.2, np.random.default_rng(5))
    lengths = []
    for chosen in selected:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
        lengths += (edges[1::2] - edges[::2]).tolist()
    assert np.median(lengths) == SPAN_SAMPLES


def test_random_selection_reaches_the_ends_like_the_middle():
    share = select_random_spans(np.zeros((4000, 256)), 0.2, np.random.default_rng(6)).mean(axis=0)
    assert share[:8].mean() == pytest.approx(0.2, abs=0.03) and share[124:132].mean() == pytest.approx(0.2, abs=0.03)


def test_kinds_are_drawn_uniformly():
    signal = np.tile(np.arange(100.0), (3000, 1))
    selected = np.ones(signal.shape, dtype=bool)
    replaced, hidden = hide_and_replace(signal, selected, np.random.default_rng(9))
    np.testing.assert_allclose(hidden.mean(axis=0), 0.8, atol=0.04)
    # a tenth is replaced, sometimes by an equal value of another channel
    np.testing.assert_allclose((replaced != signal).mean(axis=0), 0.1, atol=0.03)


def test_replacements_come_from_the_whole_window_but_never_from_the_sample_itself():
    signal = np.arange(300.0).reshape(3, 100)
    values = []
    for seed in range(200):
        replaced, hidden = hide_and_replace(signal, np.ones(signal.shape, dtype=bool), np.random.default_rng(seed))
        changed = replaced != signal
        assert (changed.sum(axis=-1) == 10).all()
        values += replaced[changed].tolist()
    assert np.isin(values, signal).all() and kstest(np.array(values) / 300, "uniform").pvalue > 0.01
