"""Simple fillers of hidden samples, and the program that compares a model with them."""

import json
import shutil
import sys
from functools import partial
from types import SimpleNamespace

import evaluate_reconstruction
import mne
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_batch, small_config
from sklearn.linear_model import Ridge

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    save_checkpoint,
)
from neuript_hf.checkpoints.training_record import TrainingRecord, TrainingStage, write_training_record
from neuript_hf.data.collator import real_samples
from neuript_hf.data.simulation import simulate_dataset
from neuript_hf.electrodes import HEAD_CENTRE, HEAD_ORIGIN, HEAD_SCALE, TEN_TWENTY, grid_positions, positions_of
from neuript_hf.evaluation.imputation import (
    RIDGE,
    channel_statistics,
    fill_channel_mean,
    fill_linear,
    fill_ridge,
    fill_spline,
)


def signals(windows=4, channels=19, samples=50, seed=0):
    """Windows of correlated channels, each with its own level."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=torch.Generator().manual_seed(99)) / channels**0.5
    noise = torch.randn(windows, channels, samples, generator=generator)
    return mixing @ noise.cumsum(dim=-1) / 5 + torch.arange(channels)[:, None] / 10


def some_visible(like, share=0.6, seed=1):
    return torch.rand(like.shape, generator=torch.Generator().manual_seed(seed)) < share


@pytest.fixture(scope="module")
def fillers():
    """All of them, as functions of values and visible."""
    training = signals(windows=20, seed=5)
    statistics = channel_statistics(training, torch.ones_like(training, dtype=torch.bool))
    positions = torch.as_tensor(grid_positions(TEN_TWENTY)).expand(4, -1, -1)
    return {
        "mean": fill_channel_mean,
        "linear": fill_linear,
        "ridge": partial(fill_ridge, statistics=statistics),
        "spline": partial(fill_spline, electrode_positions=positions),
    }


NAMES = ["mean", "linear", "ridge", "spline"]


@pytest.mark.parametrize("name", NAMES)
def test_hidden_values_stay_hidden_and_visible_ones_stay(fillers, name):
    values = signals()
    visible = some_visible(values)
    visible[0, 3] = False  # a bad channel
    visible[1, :, 40:] = False  # padding
    visible[2, :, 7] = False  # an instant at which nothing is seen
    filled = fillers[name](values, visible)
    assert filled.dtype == values.dtype and filled.isfinite().all()
    assert torch.equal(filled[visible], values[visible])
    assert not torch.isclose(filled[~visible], values[~visible]).any(dim=-1).all()
    for other in (1e3, float("nan")):
        assert torch.equal(fillers[name](values.masked_fill(~visible, other), visible), filled)


@pytest.mark.parametrize("name", NAMES)
def test_order_and_padding_of_windows_change_nothing(fillers, name):
    values = signals()
    visible = some_visible(values)
    filled = fillers[name](values, visible)
    backwards, seen = (torch.nn.functional.pad(tensor.flip(0), (0, 9)) for tensor in (values, visible))
    again = fillers[name](backwards, seen)[..., :-9].flip(0)
    torch.testing.assert_close(again, filled, atol=1e-6, rtol=1e-6)


def test_channel_mean_by_hand():
    values = torch.tensor([[[1.0, 5.0, 9.0, 3.0], [1.0, 2.0, 3.0, 4.0]]])
    visible = torch.tensor([[[True, False, False, True], [False] * 4]])
    assert fill_channel_mean(values, visible).tolist() == [[[1, 2, 2, 3], [0, 0, 0, 0]]]


def test_linear_is_numpys():
    values = signals().double()
    visible = some_visible(values, share=0.3)
    visible[0, 0] = False
    places = np.arange(values.shape[-1])
    expected = np.zeros(values.shape)
    for row in np.ndindex(*values.shape[:2]):
        if (seen := visible[row].numpy()).any():
            expected[row] = np.interp(places, places[seen], values[row].numpy()[seen])
    np.testing.assert_allclose(fill_linear(values, visible).numpy(), expected, atol=1e-12)


def test_ridge_is_scikit_learns_for_every_pattern():
    training, values = signals(windows=30, seed=5).double(), signals().double()
    statistics = channel_statistics(training, torch.ones_like(training, dtype=torch.bool))
    instants = training.transpose(1, 2).flatten(0, 1).numpy()
    strength = RIDGE * instants.var(axis=0).mean() * len(instants)
    visible = some_visible(values)
    filled = fill_ridge(values, visible, statistics).numpy()
    for window, sample in ((0, 0), (1, 20), (3, 49)):
        seen = visible[window, :, sample].numpy()
        regression = Ridge(alpha=strength, solver="cholesky").fit(instants[:, seen], instants[:, ~seen])
        expected = regression.predict(values[window, :, sample].numpy()[None, seen])[0]
        np.testing.assert_allclose(filled[window, ~seen, sample], expected, atol=1e-9)


def test_ridge_without_visible_samples_is_the_mean():
    training = signals(windows=20, seed=5)
    statistics = channel_statistics(training, torch.ones_like(training, dtype=torch.bool))
    nothing = fill_ridge(training[:2], torch.zeros(2, 19, 50, dtype=torch.bool), statistics)
    torch.testing.assert_close(nothing[1, :, 3].double(), statistics.mean, atol=1e-6, rtol=0)


def test_statistics_leave_out_padding():
    values = signals(windows=6).double()
    padded = torch.nn.functional.pad(values, (0, 10), value=7.0)
    real = torch.nn.functional.pad(torch.ones_like(values, dtype=torch.bool), (0, 10))
    mean, covariance = channel_statistics(padded, real)
    instants = values.transpose(0, 1).flatten(1).numpy()
    np.testing.assert_allclose(mean.numpy(), instants.mean(axis=1))
    np.testing.assert_allclose(covariance.numpy(), np.cov(instants, bias=True), atol=1e-12)


def test_a_channel_that_is_often_bad_is_trusted_less():
    values = signals(windows=6)
    real = torch.ones_like(values, dtype=torch.bool)
    whole = channel_statistics(values, real).covariance
    real[1:, 2] = False
    part = channel_statistics(values, real).covariance
    assert torch.linalg.eigvalsh(part).min() > -1e-9
    assert part[2].abs().sum() < 0.5 * whole[2].abs().sum()
    others = [channel for channel in range(19) if channel != 2]
    torch.testing.assert_close(part[others][:, others], whole[others][:, others])


def test_channels_without_anything_to_fit_are_refused():
    values = signals()
    real = torch.ones_like(values, dtype=torch.bool)
    real[:, 4] = False
    values[:, 6] = 0.5
    with pytest.raises(ValueError, match=r"number \[4, 6\] are bad or flat in all 4 training windows"):
        channel_statistics(values, real)
    statistics = channel_statistics(signals(), torch.ones_like(real))
    with pytest.raises(ValueError, match="have 3 channels, the fit 19"):
        fill_ridge(values[:, :3], real[:, :3], statistics)


def test_spline_is_mnes():
    values = signals(windows=1).double()
    bad = [2, 9, 17]
    visible = torch.ones_like(values, dtype=torch.bool)
    visible[:, bad] = False
    grid = grid_positions(TEN_TWENTY)
    info = mne.create_info(list(TEN_TWENTY), 64, "eeg")
    places = dict(zip(TEN_TWENTY, grid / HEAD_SCALE + HEAD_ORIGIN, strict=True))
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    raw = mne.io.RawArray(values[0].numpy(), info)
    raw.info["bads"] = [TEN_TWENTY[channel] for channel in bad]
    expected = raw.interpolate_bads(origin=HEAD_CENTRE).get_data(list(TEN_TWENTY))
    filled = fill_spline(values, visible, torch.as_tensor(grid)[None])
    np.testing.assert_allclose(filled[0, bad].numpy(), expected[bad], atol=1e-6)


def test_the_centre_of_the_head_is_mnes():
    info = mne.create_info(list(TEN_TWENTY), 64, "eeg")
    places = dict(zip(TEN_TWENTY, positions_of(TEN_TWENTY), strict=True))
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    _, centre, _ = mne.bem.fit_sphere_to_headshape(info, dig_kinds="eeg", units="m")
    np.testing.assert_allclose(HEAD_CENTRE, centre, atol=1e-4)


def test_real_samples_of_a_batch():
    batch = make_batch(2, 3, 10)
    assert real_samples(batch).all()
    batch["channel_mask"] = torch.tensor([[True, True, False], [True, True, True]])
    batch["attention_mask"] = torch.arange(10).expand(2, 10) < torch.tensor([[10], [6]])
    real = real_samples(batch)
    assert real.shape == (2, 3, 10)
    assert real.sum(dim=-1).tolist() == [[10, 10, 0], [6, 6, 6]]


# The program


class Oracle:
    """A model that gives the true values, or others."""

    device = torch.device("cpu")

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, input_values, hidden_positions, **kwargs):
        assert not input_values[hidden_positions].any()
        return SimpleNamespace(reconstruction=self.answer)


def sums_of(answer, batch, people):
    statistics = channel_statistics(batch["labels"], real_samples(batch))
    tables = evaluate_reconstruction.errors_of_batch(
        Oracle(answer), batch, dict.fromkeys(("companded", "microvolt"), statistics), NeurIPTFeatureExtractor(), people
    )
    sums = pd.concat({("amplitude", scale, "made up"): table for scale, table in tables.items()})
    return sums.rename_axis(["strategy", "scale", "set", "band", "person"])


@pytest.fixture(scope="module")
def masked():
    windows = signals(windows=4, samples=64)
    features = NeurIPTFeatureExtractor(montage="as_recorded").channel_features(TEN_TWENTY)
    return DataCollatorForAmplitudeAwareMasking()([{"input_values": window, **features} for window in windows])


PEOPLE = ["one", "one", "two", "two"]


def test_the_truth_has_no_error_and_the_mean_an_error_of_one(masked):
    labels, hidden = masked["labels"], masked["hidden_positions"]
    perfect = evaluate_reconstruction.errors_by_person(sums_of(labels, masked, PEOPLE), by_band=False)
    assert (perfect["model"] == 0).all()
    means = torch.zeros_like(labels)
    for part in (slice(0, 2), slice(2, 4)):
        means[part] = labels[part][hidden[part]].mean()
    errors = evaluate_reconstruction.errors_by_person(sums_of(means, masked, PEOPLE), by_band=False)["model"]
    assert errors.xs("companded", level="scale").to_numpy() == pytest.approx([1, 1], abs=1e-5)
    assert (errors.xs("microvolt", level="scale") >= 1).all()


def test_bands_make_up_the_whole(masked):
    sums = sums_of(torch.zeros_like(masked["labels"]), masked, PEOPLE)
    levels = ["strategy", "scale", "set", "person", "band"]
    sums = sums.groupby(level=levels).sum()
    whole = evaluate_reconstruction.errors_by_person(sums, by_band=False)
    bands = evaluate_reconstruction.errors_by_person(sums, by_band=True)
    assert sums["samples"].groupby(level="scale").sum().tolist() == [masked["hidden_positions"].sum()] * 2
    weighted = bands.mul(sums["samples"], axis=0).groupby(level=levels[:-1]).sum()
    weighted = weighted.div(sums["samples"].groupby(level=levels[:-1]).sum(), axis=0)
    pd.testing.assert_frame_equal(weighted, whole)
    # ranks are those of the true values
    values = (sums["value"] / sums["samples"]).xs("companded", level="scale").groupby(level="band").mean()
    assert values[0] < values[2] < values[4]


def test_means_count_every_data_set_once():
    values = pd.Series(
        [1.0, 3.0, 10.0, 10.0, 10.0, 10.0],
        index=pd.MultiIndex.from_arrays([list("aabbbb"), range(6)], names=["set", "p"]),
    )
    told = evaluate_reconstruction.mean_over_people(values)
    assert told["mean"] == 6 and told["interval"] == [5.5, 6.5]
    assert evaluate_reconstruction.mean_over_people(values.iloc[:3])["interval"] is None


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = small_config(decoder_size=8)
    save_checkpoint(NeurIPTForPreTraining(config), NeurIPTFeatureExtractor(montage="as_recorded"), folder)
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    path = simulate_dataset(tmp_path_factory.mktemp("recordings"), n_subjects=5, n_trials=4, sampling_rate=100)
    table = pd.read_csv(path)
    table["set"] = "simulated"
    table.to_csv(path, index=False)
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate_reconstruction.py", *map(str, arguments)])
    evaluate_reconstruction.main()


def test_from_recordings_to_a_table(checkpoint, manifest, tmp_path, monkeypatch, capsys):
    output = tmp_path / "results" / "simulated.json"
    arguments = ("--model", checkpoint, "--data", manifest, "--sets", "simulated", "--output", output)
    run(monkeypatch, *arguments, "--max_windows", 6)
    printed = capsys.readouterr().out
    results = json.loads(output.read_text())
    assert results["provenance"]["arguments"]["max_windows"] == 6
    assert set(results["reconstruction"]) == {"amplitude", "random"}
    for strategy, scales in results["reconstruction"].items():
        assert f"Masks: {strategy}." in printed
        for told in scales.values():
            part = told["sets"]["simulated"]
            assert part["people"] == 2 and len(told["by_person"]["simulated"]) == 2
            for method, error in part["error"].items():
                people = [errors[method] for errors in told["by_person"]["simulated"].values()]
                assert error["mean"] == pytest.approx(np.mean(people))
                assert min(people) - 1e-9 <= error["interval"][0] <= error["interval"][1] <= max(people) + 1e-9
            for filler, gain in part["gain"].items():
                assert gain["mean"] == pytest.approx(part["error"][filler]["mean"] - part["error"]["model"]["mean"])
            # in a volume conductor the other channels say most, and random weights nothing
            errors = {method: error["mean"] for method, error in part["error"].items()}
            assert errors["ridge, same instant"] < 0.5 < errors["channel mean"]
            assert errors["ridge, same instant"] < errors["model"]
        error = scales["companded"]["overall"]["error"]["linear in time"]["mean"]
        assert f"{error:.3f}" in printed


def test_people_that_the_weights_have_seen_are_refused(checkpoint, manifest, monkeypatch, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "seen")
    stage = TrainingStage("pre-training", [], ["simulated/sub-05"], 1, 1, 1.0, 1, "a machine", None, "train", [0])
    write_training_record(folder, TrainingRecord([stage]))
    arguments = ("--model", folder, "--data", manifest, "--sets", "simulated", "--output", tmp_path / "x.json")
    with pytest.raises(ValueError, match="simulated/sub-05"):
        run(monkeypatch, *arguments)
    run(monkeypatch, *arguments, "--allow_seen_people", "--max_windows", 2, "--strategies", "random")
    assert set(json.loads((tmp_path / "x.json").read_text())["reconstruction"]) == {"random"}


def test_positions_outside_the_head_frame_are_refused(checkpoint, manifest, monkeypatch, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "authors")
    NeurIPTFeatureExtractor(montage="as_recorded", coordinate_frame="montage").save_pretrained(folder)
    with pytest.raises(ValueError, match="coordinate_frame is 'montage'"):
        run(monkeypatch, "--model", folder, "--data", manifest, "--sets", "simulated", "--output", tmp_path / "x.json")
