"""
NeurIPT as a model of braindecode: the same windows and embeddings as everywhere else, and what braindecode, skorch and
the benchmarks built on them do with a model. `make test-braindecode` runs it, in an environment with braindecode.
"""

import pickle
import re

import mne
import numpy as np
import pytest
import torch
from conftest import ROOT, make_epochs, small_config
from safetensors.torch import load_file
from torch import nn
from transformers import pipeline


pytest.importorskip("braindecode")

from braindecode import EEGClassifier
from braindecode.datasets import BaseConcatDataset, create_from_mne_epochs

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForSequenceClassification, save_checkpoint
from neuript_hf.data.simulation import simulate_recording
from neuript_hf.integrations.braindecode import NeurIPTBraindecode


TINY = ROOT / "hub" / "neuript-tiny"
NAMES = ["Fz", "C3", "Cz", "C4", "T3", "O1", "O2"]
BANANA = ["Fp1", "F7", "T7", "P7", "O1", "Fp2", "F8", "T8", "P8", "O2", "C3", "Cz", "C4", "F3", "P3", "F4", "P4"]
# What companded values may differ by from the extractor's, which computes in float64.
TOLERANCE = 1e-5


def microvolts(windows=3, channels=7, samples=500, seed=0):
    """Drifting noise with an offset, as amplifiers give it, float32."""
    noise = np.random.default_rng(seed).normal(0, 3, (windows, channels, samples)).cumsum(axis=-1)
    return (noise + 200).astype(np.float32)


def chs_info(names=tuple(NAMES), types="eeg"):
    return mne.create_info(list(names), 250.0, types)["chs"]


def make_model(sfreq=250.0, unit="uV", chs_info=None, preprocessing=None, **kwargs):
    """A small model at random that takes the recording's own channels."""
    preprocessing = {"montage": "as_recorded"} if preprocessing is None else preprocessing
    configuration = small_config().to_dict()
    return NeurIPTBraindecode(
        chs_info=globals()["chs_info"]() if chs_info is None else chs_info,
        sfreq=sfreq,
        unit=unit,
        configuration=configuration,
        preprocessing=preprocessing,
        **kwargs,
    ).eval()


def assert_like_extractor(model, signal, names=tuple(NAMES), tolerance=TOLERANCE):
    made = model.preprocess(torch.from_numpy(signal))
    expected = model.extractor(
        signal, sampling_rate=model.sfreq, channel_names=list(names), unit=model.unit, return_tensors="pt"
    )
    assert expected.pop("attention_mask").all() and made.keys() == expected.keys()
    for name, values in expected.items():
        difference = (made[name].double() - values.double()).abs().max()
        assert made[name].dtype == values.dtype and difference <= (tolerance if name == "input_values" else 0), name
    return made


@pytest.mark.parametrize("rate", [64, 100, 128, 200, 250, 256, 512, 1000, 160.5])
def test_windows_are_the_extractors(rate):
    for seconds in (0.7, 2, 5):
        assert_like_extractor(make_model(sfreq=rate), microvolts(samples=round(seconds * rate)))


@pytest.mark.parametrize(
    "settings",
    [
        {"montage": "double_banana"},
        {"montage": ["C3", "Cz-C4"], "coordinate_frame": "montage", "notch_freq": 25.0},
        {"montage": "as_recorded", "l_freq": None},
        {"montage": "as_recorded", "filter_phase": "minimum"},
        {"montage": "as_recorded", "h_freq": None, "companding": None},
        {"montage": "as_recorded", "companding_a": 0.5, "l_freq": 0.5, "h_freq": 20.0},
        {"montage": ["Pz", "C3", "POz-Oz", "C3-C4"], "on_missing": "interpolate"},
        {"montage": ["C3", "F3", "FCz"], "on_missing": "drop"},
    ],
    ids=str,
)
def test_with_every_setting_of_the_extractor(settings):
    """Also where a channel of a window is bad, so that electrodes are interpolated from the others."""
    signal = microvolts(channels=len(BANANA))
    signal[1, 10] = 0.0
    signal[2, 12, 40] = np.nan
    quiet = {"match": "leaves out"} if settings["montage"] != "as_recorded" else None
    info = chs_info(BANANA)
    if quiet and settings["montage"] != "double_banana":
        with pytest.warns(UserWarning, **quiet):
            model = make_model(chs_info=info, preprocessing=settings)
    else:
        model = make_model(chs_info=info, preprocessing=settings)
    tolerance = TOLERANCE if settings.get("companding", "a-law") else 1e-3  # of microvolts with an offset of 200
    made = assert_like_extractor(model, signal, BANANA, tolerance if settings.get("l_freq", 1) else 1e-4)
    assert not made["channel_mask"].all()


def test_volts_and_microvolts():
    signal = microvolts()
    in_volts = make_model(unit="V").preprocess(torch.from_numpy(signal * 1e-6))
    in_microvolts = make_model(unit="µV").preprocess(torch.from_numpy(signal))
    torch.testing.assert_close(in_volts["input_values"], in_microvolts["input_values"], rtol=0, atol=TOLERANCE)


def test_embeddings_are_the_pipelines():
    signal = microvolts(samples=1000)
    rows = pipeline("eeg-embedding", model=str(TINY))(make_epochs(signal * 1e-6, NAMES, rate=250))
    model = NeurIPTBraindecode.from_pretrained(TINY, chs_info=chs_info(), sfreq=250, unit="uV")
    features = model(torch.from_numpy(signal), return_features=True)
    assert features["cls_token"] is None
    np.testing.assert_allclose(features["features"].detach(), [row["embedding"] for row in rows], atol=1e-4)
    # without n_outputs there is no head
    assert torch.equal(model(torch.from_numpy(signal)), features["features"])
    assert model.neuript.training_record["stages"]
    # OpenEEG-Bench reads the file itself, by the names of the weights
    saved = load_file(TINY / "model.safetensors")
    assert all(torch.equal(weight, saved[name]) for name, weight in model.state_dict().items())


def test_gradients_reach_the_signal():
    """They are those of the whole way: from the answer to the samples as recorded."""
    model = make_model(n_outputs=2)
    model.neuript.set_experts_implementation("eager")
    signal = torch.from_numpy(microvolts(windows=1, samples=250)).requires_grad_()
    model(signal)[0, 0].backward()
    assert (signal.grad.abs().amax(dim=-1) > 0).all()
    change = torch.randn_like(signal)
    before, after = (model.preprocess((signal + step * change).detach())["input_values"] for step in (-0.01, 0.01))
    _, slope = torch.autograd.functional.jvp(
        lambda x: model.preprocess(x)["input_values"], signal.detach(), change, strict=True
    )
    torch.testing.assert_close((after - before) / 0.02, slope, rtol=0.05, atol=2e-3)


def test_the_head_can_be_replaced():
    signal = torch.from_numpy(microvolts())
    model = make_model(n_outputs=2, n_times=500)
    assert model(signal).shape == (3, 2) and model.get_output_shape() == (1, 2)
    model.reset_head(5)
    assert model(signal).shape == (3, 5) and model.n_outputs == 5 and model.get_config()["n_outputs"] == 5
    model.final_layer = nn.Sequential(nn.Flatten(1), nn.LazyLinear(4))
    model(torch.zeros(1, len(NAMES), 500))  # as OpenEEG-Bench does it
    assert model(signal).shape == (3, 4)


def test_weights_survive_every_way_of_saving(tmp_path):
    signal = torch.from_numpy(microvolts())
    model = make_model(n_outputs=2, n_times=500)
    answers = model(signal)
    other = make_model(n_outputs=2)
    assert not torch.allclose(other(signal), answers)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(signal), answers)
    assert torch.equal(pickle.loads(pickle.dumps(model))(signal), answers)
    model.save_pretrained(tmp_path)  # as braindecode's models do
    with pytest.warns(UserWarning, match="chs_info"):
        loaded = NeurIPTBraindecode.from_pretrained(tmp_path)
    assert torch.equal(loaded(signal), answers) and loaded.unit == "uV" and loaded.n_times == 500
    with pytest.warns(UserWarning, match="chs_info"):
        assert NeurIPTBraindecode.from_pretrained(tmp_path, n_outputs=4)(signal).shape == (3, 4)
    # the encoder goes back to transformers, with a record that says what it does not know
    model.neuript.save_pretrained(tmp_path / "encoder")
    back = NeurIPTBraindecode.from_config(model.get_config() | {"n_outputs": None})
    back.neuript = type(back.neuript).from_pretrained(tmp_path / "encoder")
    torch.testing.assert_close(back.eval()(signal), model(signal, return_features=True)["features"])


@pytest.mark.parametrize("regression", [False, True])
def test_the_head_of_a_task_comes_along(regression, tmp_path):
    fields = {"num_labels": 1, "problem_type": "regression", "target_mean": [40.0], "target_scale": [12.0]}
    task = NeurIPTForSequenceClassification(small_config(**(fields if regression else {}))).eval()
    task.keep_record({"stages": []})
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    save_checkpoint(task, extractor, tmp_path)
    signal = microvolts()
    batch = extractor(signal, sampling_rate=250, channel_names=NAMES, unit="uV", return_tensors="pt")
    model = NeurIPTBraindecode.from_pretrained(tmp_path, chs_info=chs_info(), sfreq=250, unit="uV")
    assert model.n_outputs == task.num_labels
    torch.testing.assert_close(model(torch.from_numpy(signal)), task(**batch).logits, rtol=1e-3, atol=1e-3)
    other = NeurIPTBraindecode.from_pretrained(tmp_path, n_outputs=7, chs_info=chs_info(), sfreq=250, unit="uV")
    assert other.final_layer.out_features == 7


def test_one_model_for_any_channels_and_lengths():
    """The contract of NeuralBench's `evaluate_model`: names in the call, and an instance that can be serialised."""
    model = NeurIPTBraindecode.from_pretrained(TINY, sfreq=100, unit="uV", preprocessing={"montage": "as_recorded"})
    names = [name for name in mne.channels.make_standard_montage("biosemi64").ch_names]
    for width, samples in ((3, 100), (19, 1000), (64, 250)):
        signal = torch.from_numpy(microvolts(2, width, samples))
        places = torch.randn(2, width, 3)
        assert model(signal, channel_positions=places, ch_names=names[:width]).shape == (2, 230)
    assert str(pickle.loads(pickle.dumps(model))) == str(model)
    with pytest.raises(ValueError, match="give chs_info to the model, or ch_names"):
        model(signal)


def made_up_epochs(person=0, windows=48, rate=100, seconds=2, scale=1e-6):
    """In volts by default; in every second epoch the back of the head has an alpha rhythm."""
    samples, labels = rate * seconds, np.arange(windows) % 2
    signal = np.random.default_rng(person).normal(0, 5, (windows, len(NAMES), samples))
    signal[:, -2:] += 20 * np.sin(2 * np.pi * 10 * np.arange(samples) / rate) * labels[:, None, None]
    events = np.stack([samples * np.arange(windows), 0 * labels, labels + 1], axis=1)
    return mne.EpochsArray(scale * signal, mne.create_info(NAMES, rate, "eeg"), events)


def made_up_windows(people=1, windows=48, scale=1e-6):
    """The same as a data set of braindecode."""
    recordings = [made_up_epochs(person, windows, scale=scale) for person in range(people)]
    samples = len(recordings[0].times)
    descriptions = [{"subject": f"{person:02d}"} for person in range(people)]
    return create_from_mne_epochs(recordings, samples, samples, False, descriptions, {1: 0, 2: 1}, preload=True)


def test_skorch_fits_and_predicts():
    data = made_up_windows()
    model = NeurIPTBraindecode.from_pretrained(TINY, n_outputs=2, chs_info=chs_info(), sfreq=100, unit="V")
    model.neuript.requires_grad_(False)
    classifier = EEGClassifier(model, train_split=None, lr=0.05, max_epochs=8, batch_size=16, verbose=0)
    labels = np.array([label for _, label, _ in data])
    classifier.fit(data, y=None)
    assert (classifier.predict(data) == labels).mean() > 0.9
    assert classifier.predict_proba(data).shape == (len(labels), 2)
    assert classifier.history[-1, "train_loss"] < classifier.history[0, "train_loss"]


def test_skorch_makes_the_model_and_trains_all_of_it():
    """Of Epochs braindecode takes channels and rate, and turns volts into microvolts."""
    epochs = made_up_epochs(windows=16)
    classifier = EEGClassifier(
        NeurIPTBraindecode,
        module__unit="uV",
        module__configuration=small_config().to_dict(),
        module__preprocessing={"montage": "as_recorded"},
        train_split=None,
        max_epochs=1,
        batch_size=16,
        verbose=0,
    )
    classifier.fit(epochs, np.arange(16) % 2)
    module = classifier.module_
    assert (module.n_outputs, module.n_chans, module.n_times, module.sfreq) == (2, len(NAMES), 200, 100)
    assert [row.name for row in module.report.channels] == ["Fz", "C3", "Cz", "C4", "T7", "O1", "O2"]
    assert module.neuript.embeddings.token.weight.grad.abs().sum() > 0


@pytest.fixture
def made_up_data(monkeypatch):
    """In the place of a data set that OpenEEG-Bench fetches from the Hub: people in microvolts, as it has them."""
    monkeypatch.setattr(BaseConcatDataset, "pull_from_hub", lambda *args, **kwargs: made_up_windows(36, 4, scale=1.0))


def test_openeeg_bench_adapts_a_checkpoint(tmp_path, made_up_data):
    """LoRA by its own configuration, two epochs of it."""
    open_eeg_bench = pytest.importorskip("open_eeg_bench")
    model = NeurIPTBraindecode.from_pretrained(TINY, sfreq=100, unit="uV")
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    config = model.get_config()
    (experiment,) = open_eeg_bench.benchmark(
        NeurIPTBraindecode,
        checkpoint_path=str(tmp_path / "weights.pth"),
        model_kwargs={name: config[name] for name in ("unit", "configuration", "preprocessing")},
        datasets=["arithmetic_zyma2019"],
        finetuning_strategies=["lora"],
        peft_target_modules=["q_proj", "v_proj"],
        n_seeds=1,
        infra={"folder": str(tmp_path)},
        only_return_configs=True,
    )
    results = experiment.infra.clone_obj({"training.max_epochs": 2}).run()
    assert 0 < results["adapter_stats"]["trainable_params"] < results["adapter_stats"]["total_params"]
    assert 0 <= results["test_balanced_accuracy"] <= 1


BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "braindecode.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(("block", "printed"), zip(BLOCKS, ["right: 1.0", "completed"], strict=True))
def test_the_lines_of_the_page_run(block, printed, tmp_path, monkeypatch, capsys, made_up_data):
    """The second is OpenEEG-Bench's own entry point, in microvolts as its data are."""
    if "open_eeg_bench" in block:
        pytest.importorskip("open_eeg_bench")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub").symlink_to(ROOT / "hub")
    names = {}
    exec(compile(block, "docs/braindecode.md", "exec"), names)
    assert printed in capsys.readouterr().out
    if "results" in names:
        assert names["results"]["test_balanced_accuracy"][0] > 0.8


def test_what_is_refused():
    signal = torch.from_numpy(microvolts())
    with pytest.raises(ValueError, match="unit is needed"):
        make_model(unit=None)
    with pytest.raises(ValueError, match="'uV', 'mV' or 'V'"):
        make_model(unit="tesla")
    with pytest.raises(ValueError, match="too low"):
        make_model(sfreq=50)
    with pytest.raises(ValueError, match="No channel name is recognised: X1, X2"):
        make_model(chs_info=chs_info(["X1", "X2"]))
    with pytest.raises(ValueError, match="needs channels that the recording does not have"):
        make_model(preprocessing={"montage": "double_banana"})
    with pytest.raises(ValueError, match="digitised"):
        make_model(preprocessing={"montage": "as_recorded", "positions": "digitised"})
    with pytest.raises(ValueError, match=r"Expected windows \[B, 7, T\]"):
        make_model()(signal[:, :5])
    with pytest.raises(ValueError, match="unit='uV'"):
        make_model(unit="V")(signal)
    with pytest.raises(ValueError, match="All channels are bad in the pieces"):
        make_model()(torch.where(torch.arange(3)[:, None, None] == 1, 0.0, signal))


def test_channels_that_are_left_out_are_named():
    with pytest.warns(UserWarning, match=r"HEOG \(of type eog\); X7 \(unknown name\)"):
        model = make_model(chs_info=chs_info(["C3", "HEOG", "X7", "T3"], ["eeg", "eog", "eeg", "eeg"]))
    assert [row.name for row in model.report.channels] == ["C3", "T7"]
    assert model(torch.from_numpy(microvolts(channels=4))).shape == (3, model.neuript.config.num_head_features)


def test_without_judging_every_channel_counts():
    signal = torch.from_numpy(microvolts())
    signal[:, 0] = 0.0
    judged, free = make_model(), make_model(judge=False)
    assert not judged.preprocess(signal)["channel_mask"][:, 0].any()
    assert free.preprocess(signal)["channel_mask"].all()
    assert free(1e6 * signal).isfinite().all()


def test_mixed_precision_does_not_reach_the_filters():
    signal, model = torch.from_numpy(microvolts()), make_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.preprocess(signal)["input_values"]
    assert torch.equal(mixed, model.preprocess(signal)["input_values"])
    halved = make_model().to(torch.bfloat16)
    assert torch.equal(halved.preprocess(signal)["input_values"], mixed)


def test_a_simulated_recording_through_braindecodes_windows():
    """From Raw, in volts, through braindecode's own windows."""
    from braindecode.datasets import RawDataset
    from braindecode.preprocessing import create_fixed_length_windows

    raw = simulate_recording(subject=1, n_trials=2)
    samples = round(4 * raw.info["sfreq"])
    windows = create_fixed_length_windows(
        BaseConcatDataset([RawDataset(raw)]),
        window_size_samples=samples,
        window_stride_samples=samples,
        drop_last_window=True,
    )
    signal = np.stack([window[0] for window in windows])
    model = make_model(sfreq=raw.info["sfreq"], unit="V", chs_info=raw.info["chs"])
    assert_like_extractor(model, signal, raw.ch_names)
