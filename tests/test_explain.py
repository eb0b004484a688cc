"""Explanations find what was planted, say nothing where there is nothing, and come with intervals over people."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import COMPACT, make_epochs, make_raw, small_config

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForSequenceClassification, load_recordings
from neuript_hf.__main__ import main
from neuript_hf.evaluation.target_fits import start_from_fit
from neuript_hf.explain.gradients import integrated_gradients
from neuript_hf.explain.internals import attention, participation
from neuript_hf.explain.occlusion import occlusion, without_band, without_time
from neuript_hf.explain.summary import summarise
from neuript_hf.explain.windows import grouped, logits_of, target_names, target_scores, windows_of


matplotlib.use("Agg")
CHANNELS = ["Fz", "C3", "C4", "O1", "Oz", "O2"]
RATE, SECONDS = 128, 2
NAMES = {"id2label": {0: "alpha", 1: "rest"}, "label2id": {"alpha": 0, "rest": 1}}


@pytest.fixture(scope="module")
def extractor():
    return NeurIPTFeatureExtractor(montage=CHANNELS, window_seconds=SECONDS)


@pytest.fixture(scope="module")
def windows(extractor):
    """Noise of four people; in half of their windows O1 has 10 Hz from 0.5 to 1.5 s."""
    rng = np.random.default_rng(0)
    labels = ["rest", "alpha"] * 4
    seconds = np.arange(RATE * SECONDS) / RATE
    envelope = np.where(np.abs(seconds - 1) < 0.5, np.cos(np.pi * (seconds - 1)) ** 2, 0)
    wave = 4e-5 * np.sin(2 * np.pi * 10 * seconds) * envelope
    people = []
    for _ in range(4):
        signal = rng.normal(0, 1e-5, (len(labels), len(CHANNELS), len(seconds)))
        signal[1::2, CHANNELS.index("O1")] += wave
        people.append(make_epochs(signal, CHANNELS, RATE))
    splits = {"a": "train", "b": "train", "c": "train", "d": "train"}
    loaded = load_recordings(people, extractor, subjects=list("abcd"), labels=[labels] * 4, splits=splits)
    return loaded["train"]


def classifier(seed=0, **fields):
    torch.manual_seed(seed)
    config = small_config(num_labels=2, merge_sizes=[8, 1, 2, 1, 2, 1], **NAMES, **(COMPACT | fields))
    return NeurIPTForSequenceClassification(config)


@pytest.fixture(scope="module")
def fitted(windows):
    model = classifier()
    start_from_fit(model, windows, penalty=1.0)
    return model


@pytest.fixture(scope="module")
def table(fitted, windows, extractor):
    return occlusion(fitted, windows, extractor, bands=[(2, 6), (8, 12), (14, 20), (20, 30)])


def largest(summary, kind):
    rows = summary[(summary["kind"] == kind)].sort_values("value", ascending=False)
    return rows["what"].tolist(), rows["value"].tolist()


def test_a_planted_source_is_found(table):
    summary = summarise(table, by_target=True)
    summary = summary[summary["target"] == "alpha"]
    channels, values = largest(summary, "channel")
    assert channels[0] == "O1" and values[0] > 3 * max(abs(values[1]), 0.01)
    times, values = largest(summary, "time")
    assert set(times[:2]) == {"0.5-1 s", "1-1.5 s"} and values[1] > 3 * abs(values[2])
    bands, values = largest(summary, "band")
    assert bands[0] == "8-12 Hz" and values[0] > 3 * abs(values[1])
    found = summary[summary["what"].isin(["O1", "8-12 Hz"])]
    assert (found["low"] > 0).all() and (found["people"] == 4).all() and (found["windows"] == 16).all()


def test_random_weights_give_another_map(table, windows, extractor):
    """Also at the planted source: a random head does not know that it matters."""
    fitted_map = summarise(table[table["kind"] == "channel"])["value"]
    for seed in (1, 2):
        model = classifier(seed, compact_embedding=False)
        random_map = summarise(occlusion(model, windows, extractor, kinds=["channel"]))["value"]
        assert np.corrcoef(fitted_map, random_map)[0, 1] < 0.8
        assert random_map.abs().max() < 0.2 * fitted_map.abs().max()


def test_the_table_has_a_row_for_each_window_and_part(table, windows):
    assert table.columns.tolist() == "person recording onset target kind what start stop value".split()
    assert len(table) == len(windows) * (len(CHANNELS) + 4 + 4) and table["value"].notna().all()
    names = windows.features["labels"].names
    targets = table.drop_duplicates(["recording", "onset"])["target"].tolist()
    assert targets == [names[label] for label in windows["labels"]]


def test_nothing_is_lost_where_nothing_is_taken_away(fitted, windows, extractor):
    """A stretch that is a straight line already, a band that is not in the signal, a channel that no head reads."""
    signal = np.linspace(-20, 20, 128) * np.ones((3, 1))
    line = torch.from_numpy(signal)
    assert torch.allclose(without_time(line, 30, 60), line)
    assert torch.equal(without_time(line, 0, 128), torch.zeros_like(line))
    times = np.arange(256) / 64
    wave = np.sin(2 * np.pi * 6 * times)
    assert np.abs(without_band(wave, 64, 20, 25) - wave).max() < 0.02
    blind = classifier()
    start_from_fit(blind, windows, penalty=1.0)
    frontal = grouped(blind.config, windows)[0].batch["lobe_mask"][0, CHANNELS.index("Fz")]
    blind.blank_groups(frontal)
    lost = occlusion(blind, windows.select(range(4)), extractor, kinds=["channel"]).groupby("what")["value"]
    # the encoder lets other channels look at Fz, so only its own power is surely not read
    assert lost.mean().abs()["Fz"] < 0.1 * lost.mean().abs().max()


@pytest.mark.parametrize("frequency", [10.0, 10.37, 13.13])
def test_a_band_takes_out_what_is_in_it(frequency):
    """Also waves that do not fit into the window a whole number of times; what is beside the band stays."""
    times = np.arange(256) / 64
    inside, beside = np.sin(2 * np.pi * frequency * times + 0.7), np.sin(2 * np.pi * (frequency + 3) * times)
    left = without_band(inside + beside, 64, frequency - 0.5, frequency + 0.5)
    assert np.mean((left - beside) ** 2) < 0.06 * np.mean(inside**2)


def test_neighbouring_bands_take_out_what_both_do():
    signal = np.random.default_rng(0).normal(size=(2, 256))
    removed = [signal - without_band(signal, 64, low, high) for low, high in ((4, 8), (8, 13), (4, 13))]
    assert np.allclose(removed[0] + removed[1], removed[2])


def test_time_becomes_a_line_without_a_step():
    signal = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0))
    cut = without_time(signal, 16, 32)
    assert torch.equal(cut[..., :16], signal[..., :16]) and torch.equal(cut[..., 32:], signal[..., 32:])
    assert torch.allclose(cut[..., 15:33].diff(n=2), torch.zeros(()), atol=1e-5)
    first = without_time(signal, 0, 16)
    assert torch.equal(first[..., :16], signal[..., 16:17].expand(-1, -1, 16))


def test_a_channel_is_taken_away_as_a_bad_one_is(fitted, windows):
    """Leaving it out of the tensors gives what masking it gives."""
    group = grouped(fitted.config, windows.select(range(3)))[0]
    assert not group.numbered
    masks = torch.ones(3, len(CHANNELS), dtype=torch.bool)
    masks[:, 2] = False
    both = [
        logits_of(fitted, [batch], 32) for batch in (group.without_channel(2), group.batch | {"channel_mask": masks})
    ]
    assert torch.allclose(*both, atol=1e-5)


def test_bad_channels_have_no_row_and_change_nothing(fitted, windows, extractor, table):
    """Windows with other good channels are explained beside the rest."""

    def mask(window, index):
        good = [name != "C3" or index != 0 for name in CHANNELS]
        signal = np.array(window["input_values"])
        signal[~np.array(good)] = 50.0
        return {"channel_mask": good, "input_values": signal.tolist()}

    some = windows.select(range(3)).map(mask, with_indices=True)
    found = occlusion(fitted, some, extractor, kinds=["channel"])
    assert found.groupby("onset")["what"].agg(list).tolist() == [
        [name for name in CHANNELS if name != "C3"],
        CHANNELS,
        CHANNELS,
    ]
    expected = table[(table["kind"] == "channel") & table["onset"].isin(found["onset"][found["onset"] > 0])]
    expected = expected[expected["recording"] == found["recording"].iloc[0]]
    assert np.allclose(found.loc[found["onset"] > 0, "value"], expected["value"], atol=1e-4)


def test_models_that_number_their_channels_keep_them(windows, extractor):
    model = classifier(pooling="none", num_lobes=len(CHANNELS), compact_embedding=False, connectivity_bands=None)
    group = grouped(model.config, windows)[0]
    assert group.numbered
    batch = group.without_channel(1)
    assert batch["input_values"].shape[1] == len(CHANNELS) and not batch["channel_mask"][:, 1].any()
    assert len(occlusion(model, windows.select(range(2)), extractor, kinds=["channel"])) == 2 * len(CHANNELS)


def test_batches_make_no_difference(fitted, windows, extractor, table):
    again = occlusion(fitted, windows, extractor, kinds=["channel"], batch_size=5)
    assert np.allclose(again["value"], table.loc[table["kind"] == "channel", "value"], atol=1e-4)


def test_targets_of_each_problem_type():
    logits = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    config = small_config(num_labels=2, **NAMES)
    classes = torch.tensor([0, 1])
    assert torch.allclose(target_scores(config, logits, classes)[:, 0], logits.log_softmax(-1).diagonal())
    assert target_names(config, classes).tolist() == [["alpha"], ["rest"]]
    config.problem_type = "multi_label_classification"
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert torch.allclose(target_scores(config, logits, rows).exp(), torch.where(rows > 0, logits, -logits).sigmoid())
    assert target_names(config, rows).tolist() == [["alpha", "not rest"], ["alpha", "rest"]]
    config.problem_type = "regression"
    assert target_scores(config, logits, rows) is logits
    assert target_names(config, rows).tolist() == [["alpha", "rest"]] * 2


def test_without_labels_the_answer_is_explained(fitted, windows, extractor):
    some = windows.select(range(4))
    labelled = occlusion(fitted, some, extractor, kinds=["time"])
    assert labelled.equals(occlusion(fitted, some.remove_columns("labels"), extractor, kinds=["time"]))
    other = some.map(lambda window: {"labels": 1 - window["labels"]})
    assert labelled.equals(occlusion(fitted, other, extractor, kinds=["time"], target="predicted"))
    opposite = occlusion(fitted, other, extractor, kinds=["time"])
    assert (opposite["target"] != labelled["target"]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bands": [(10, 10.5)]}, "0.5 Hz wide, but windows of 2 s resolve 1 Hz at best"),
        ({"bands": [(20, 40)]}, "high <= 32"),
        ({"kinds": ["channels"]}, "kinds must be of channel, time, band"),
        ({"step_seconds": 0.001}, "a sample"),
        ({"target": "alpha"}, "target must be None"),
    ],
)
def test_refusals(fitted, windows, extractor, settings, message):
    with pytest.raises(ValueError, match=message):
        occlusion(fitted, windows, extractor, **settings)


def test_channel_names_must_be_known(fitted, windows, extractor):
    from neuript_hf.data.windows import channel_reports

    some = windows.select([1, 2])
    with pytest.raises(ValueError, match="channel names of 1 recordings"):
        occlusion(fitted, some, extractor)
    found = occlusion(fitted, some, extractor, kinds=["channel"], reports=channel_reports(windows))
    assert found["what"].tolist() == CHANNELS * 2


def test_people_count_the_same_and_one_has_no_interval(caplog):
    rows = [("a", 0, 1.0), ("a", 1, 1.0), ("a", 2, 1.0), ("b", 0, 5.0)]
    table = pd.DataFrame(rows, columns=["person", "onset", "value"]).assign(recording="r", target="t", what="C3")
    (summary,) = summarise(table).to_dict("records")
    assert summary == {"what": "C3", "value": 3.0, "low": 1.0, "high": 5.0, "people": 2, "windows": 4}
    alone = summarise(table[table["person"] == "a"])
    assert alone["low"].isna().all() and "no interval over people" in caplog.text


def test_attention(fitted, windows, extractor):
    table = attention(fitted, windows.select(range(8)), extractor)
    assert set(table["layer"]) == set(range(1, 7)) and set(table["axis"]) == {"time", "channel"}
    assert np.allclose(table.groupby(["person", "target", "layer", "axis", "query"])["value"].sum(), 1)
    assert table.loc[table["axis"] == "channel", "key"].unique().tolist() == CHANNELS
    first = table[(table["axis"] == "time") & (table["layer"] == 1)]["query"].unique()
    assert first.tolist() == [index / 8 for index in range(16)]
    assert fitted.config._attn_implementation == "sdpa"


def test_participation(fitted, windows, extractor):
    table = participation(fitted, windows.select(range(8)), extractor)
    experts = table.groupby(["layer", "axis"])["expert"].nunique().unstack("axis")
    assert experts.to_dict() == {"time": {2: 2, 4: 3, 6: 4}, "channel": {2: 2, 4: 3, 6: 4}}
    shares = table.groupby(["onset", "layer", "axis"])["value"].sum().unstack("layer")
    assert np.allclose(shares, [1, 2, 2])  # half of the experts, rounded up
    with pytest.raises(ValueError, match="no experts"):
        participation(classifier(num_experts=[0] * 6), windows, extractor)


def test_integrated_gradients_are_complete(windows, extractor, caplog):
    """Quickly so without experts, whose jumps need more steps."""
    pytest.importorskip("captum", reason="integrated gradients need captum: the extra `explain`")
    fitted, some = classifier(num_experts=[0] * 6), windows.select(range(2))
    start_from_fit(fitted, windows, penalty=1.0)
    found = integrated_gradients(fitted, some, extractor, windows, num_references=2, steps=16)
    assert found.error < 0.03 and "approximate" not in caplog.text
    sums = found.table.groupby(["onset", "kind"])["value"].sum().unstack("kind")
    assert np.allclose(sums["channel"], found.completeness["sum"], atol=1e-5)
    assert np.allclose(sums["time"], found.completeness["sum"], atol=1e-5)
    summary = summarise(found.table[found.table["target"] == "alpha"])
    assert largest(summary, "channel")[0][0] == "O1" and set(largest(summary, "time")[0][:2]) == {"0.5-1 s", "1-1.5 s"}
    integrated_gradients(fitted, some, extractor, windows, num_references=1, steps=1, tolerance=0.0)
    assert "approximate" in caplog.text
    with pytest.raises(ValueError, match="No other window"):
        integrated_gradients(fitted, windows.select([0]), extractor)


def test_the_command_writes_a_figure_and_its_table(fitted, extractor, tmp_path, capsys):
    fitted.save_pretrained(tmp_path / "model")
    extractor.save_pretrained(tmp_path / "model")
    signal = np.random.default_rng(0).normal(0, 1e-5, (len(CHANNELS), RATE * 8))
    make_raw(signal, CHANNELS, RATE).save(tmp_path / "sub-01_raw.fif")
    command = ["explain", str(tmp_path / "sub-01_raw.fif"), "--model", str(tmp_path / "model"), "-o"]
    assert main([*command, str(tmp_path / "why.pdf"), "--bands", "8-12", "12.5-13.5"]) == 0
    assert (tmp_path / "why.pdf").read_bytes().startswith(b"%PDF")
    table = pd.read_csv(tmp_path / "why.csv")
    assert table["what"].unique().tolist() == [*CHANNELS, *table["what"].unique()[6:10], "8-12 Hz", "12.5-13.5 Hz"]
    assert table["onset"].unique().tolist() == [0, 2, 4, 6]
    windows = windows_of(tmp_path / "sub-01_raw.fif", extractor)
    assert np.allclose(windows["onset"], [0, 2, 4, 6])
    assert main([*command, str(tmp_path / "why.doc")]) == 1
    assert main([*command, str(tmp_path / "why.png"), "--bands", "alpha"]) == 1
    assert "LOW-HIGH in hertz" in capsys.readouterr().err


def test_figures(table, fitted, windows, extractor):
    """Panels for what the summary has; all electrodes of the 10-20 system lie in the head."""
    from matplotlib import pyplot as plt

    from neuript_hf.electrodes import TEN_TWENTY
    from neuript_hf.explain import figures

    before = dict(plt.rcParams)
    summary = summarise(table)
    assert len(figures.explanation_figure(summary, "All").axes) == 4  # with the colour bar
    assert len(figures.explanation_figure(summary[summary["kind"] == "band"]).axes) == 1
    with pytest.raises(ValueError, match="no rows of the kind 'band'"):
        figures.draw_bands(summary[summary["kind"] == "time"], plt.figure().add_subplot())
    assert (np.linalg.norm(figures.head_places(TEN_TWENTY), axis=1) <= figures.HEAD_RADIUS).all()
    left, right = figures.head_places(["C3", "C4"])
    assert left[0] < 0 < right[0]
    some = windows.select(range(4))
    maps = attention(fitted, some, extractor)
    assert len(figures.attention_figure(maps[maps["layer"] <= 2]).axes) == 8  # with colour bars
    shares = summarise(participation(fitted, some, extractor), by_target=True)
    assert len(figures.participation_figure(shares).axes) == 6
    assert dict(plt.rcParams) == before
    plt.close("all")
