"""Variables of .mat and .npz files: all trials, or the one array that is the signal, or a list to choose from."""

import importlib.util
import re

import numpy as np
import pytest
import scipy.io

from neuript_hf import NeurIPTFeatureExtractor, open_recording
from neuript_hf.data.manifest import open_row
from neuript_hf.formats.matlab import read_matlab_variables


RATE = 128
NAMES = ["Fp1", "C3", "O2"]
GIVEN = {"sampling_rate": RATE, "channel_names": NAMES, "unit": "uV"}
generator = np.random.default_rng(0)


def noise(*shape):
    return generator.normal(0, 20, shape)


def cell(*items):
    array = np.empty(len(items), dtype=object)
    for number, item in enumerate(items):
        array[number] = item
    return array


def structs(**fields):
    """An array of structs, one for each item of the fields."""
    array = np.empty(len(next(iter(fields.values()))), dtype=[(name, object) for name in fields])
    for name, values in fields.items():
        for number, value in enumerate(values):
            array[name][number] = value
    return array


@pytest.fixture
def save(tmp_path):
    def to(path="a.mat", **variables):
        path = tmp_path / path
        scipy.io.savemat(path, variables) if path.suffix == ".mat" else np.savez(path, **variables)
        return path

    return to


def whole(recording):
    if recording.in_pieces:
        return recording.read_pieces(range(3))
    return recording.read(range(3), 0, recording.segments[-1].stop)


def lengths(recording):
    return [segment.stop - segment.start for segment in recording.segments]


# Trials


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_numbered_variables_are_trials(save, suffix):
    """All of them in the order of their numbers, with a gap between any two; or one, or some, by choice."""
    trials = {f"x_eeg{k}": noise(3, 100 * (k + 5)) for k in range(1, 13)}
    path = save(f"a{suffix}", **trials)
    recording = open_recording(path, **GIVEN)
    assert lengths(recording) == [trial.shape[1] for trial in trials.values()] and len(recording.gaps) == 11
    np.testing.assert_allclose(whole(recording), np.concatenate(list(trials.values()), axis=1))
    assert "signal: the variable x_eeg* (12 arrays" in recording.notes[0]
    batch = NeurIPTFeatureExtractor(montage="as_recorded")(recording)
    assert all(recording.holds(onset, 4.0) for onset in batch.onsets)
    for given in ({"variable": "x_eeg3"}, {"trial": 2}, {"variable": "x_eeg*", "trial": 2}):
        np.testing.assert_allclose(whole(open_recording(path, **given, **GIVEN)), trials["x_eeg3"])
    assert lengths(open_recording(path, variable="x_eeg1*", **GIVEN)) == [600, 1500, 1600, 1700]
    with pytest.raises(ValueError, match="There is no trial 1.0"):
        open_recording(path, trial=1.0, **GIVEN)
    with pytest.raises(ValueError, match=r"There is no trial 12 in x_eeg\*.*it has 12, from 0 to 11"):
        open_recording(path, trial=12, **GIVEN)


def test_long_variables_of_equal_length_are_no_pieces(save):
    recording = open_recording(save(run1=noise(3, 1280), run2=noise(3, 1280)), **GIVEN)
    assert not recording.in_pieces and lengths(recording) == [1280, 1280] and recording.gaps == [(10, 10)]


def test_people_and_versions_are_not_trials(save):
    """Numbers of people, or that do not count, are a choice."""
    for names in (("s1", "s2"), ("subject_1", "subject_2"), ("data_125", "data_250"), ("s1_t1", "s2_t2")):
        with pytest.raises(ValueError, match="Several arrays may be the signal") as caught:
            open_recording(save(**{name: noise(3, 500) for name in names}), **GIVEN)
        assert all(name in str(caught.value) for name in names)
    trials = {"a_4": noise(3, 300), "a_9": noise(3, 400)}
    with pytest.raises(ValueError, match=r"if they are trials of one recording, several with \* in the name"):
        open_recording(save(**trials), **GIVEN)
    assert lengths(open_recording(save(**trials), variable="a_*", **GIVEN)) == [300, 400]


def test_numbered_arrays_of_epochs_are_a_choice(save):
    with pytest.raises(ValueError, match=r"Several arrays.*EEGdata1 \(\[3, 200, 5\]\); EEGdata2"):
        open_recording(save(EEGdata1=noise(3, 200, 5), EEGdata2=noise(3, 200, 5), y=np.ones(5)), **GIVEN)
    recording = open_recording(
        save(EEGdata1=noise(3, 200, 5), EEGdata2=noise(3, 200, 5), y=np.ones(5)), variable="EEGdata2", **GIVEN
    )
    assert recording.in_pieces and len(recording.segments) == 5


def test_cells_of_trials(save):
    trials = [noise(3, 300), noise(3, 500)]
    recording = open_recording(save(eeg=cell(*trials), fs=RATE), channel_names=NAMES, unit="uV")
    assert lengths(recording) == [300, 500] and recording.sampling_rate == RATE
    np.testing.assert_allclose(whole(recording), np.concatenate(trials, axis=1))
    np.testing.assert_allclose(whole(open_recording(save(eeg=cell(*trials)), trial=1, **GIVEN)), trials[1])
    equal = [noise(3, 300), noise(3, 300)]
    recording = open_recording(save(eeg=cell(*equal)), **GIVEN)
    assert recording.in_pieces
    np.testing.assert_allclose(whole(recording), np.stack(equal))
    turned = open_recording(save(eeg=cell(*(trial.T for trial in trials))), **GIVEN)
    np.testing.assert_allclose(whole(turned), np.concatenate(trials, axis=1))


def test_arrays_of_structs(save):
    """Runs as BNCI Horizon has them: samples first, a rate in each."""
    runs = [noise(600, 3), noise(800, 3)]
    data = structs(X=runs, fs=[RATE, RATE], y=[np.ones((1, 7)), np.ones((1, 9))])
    recording = open_recording(save(data=data), channel_names=NAMES, unit="uV")
    assert recording.sampling_rate == RATE and lengths(recording) == [600, 800]
    np.testing.assert_allclose(whole(recording), np.concatenate(runs).T)
    other = structs(X=runs, fs=[RATE, 256])
    with pytest.raises(ValueError, match="several|gives the rate as"):
        open_recording(save(data=other), channel_names=NAMES, unit="uV")
    people = structs(X=runs, fs=[RATE, RATE])
    with pytest.raises(ValueError, match=r"Several arrays.*subjects\[0\].X .*subjects\[1\].X"):
        open_recording(save(subjects=people), channel_names=NAMES, unit="uV")
    np.testing.assert_allclose(
        whole(open_recording(save(subjects=people), variable="subjects[1].X", channel_names=NAMES, unit="uV")),
        runs[1].T,
    )


def test_fieldtrip(save):
    """Trials of a cell, the rate of the data and not of the header, the time between trials."""
    trials = [noise(3, 300), noise(3, 500)]
    info = np.array([[1, 300], [400, 899]])
    data = {"trial": cell(*trials), "label": cell(*NAMES), "fsample": RATE, "hdr": {"Fs": 1000.0}, "sampleinfo": info}
    data["time"] = cell(*(np.arange(trial.shape[1])[None] / RATE for trial in trials))
    recording = open_recording(save(data=data), unit="uV")
    assert recording.sampling_rate == RATE and recording.names == NAMES and lengths(recording) == [300, 500]
    assert recording.gaps == [(300 / RATE, pytest.approx(399 / RATE))]
    np.testing.assert_allclose(whole(recording), np.concatenate(trials, axis=1))


@pytest.mark.parametrize("sizes", [(300, 500), (400, 400), (400,)])
def test_times_of_trials_contradict_the_rate(save, sizes):
    """FieldTrip's cell of times; the rate that the error advises is taken. Without a rate, the times give it."""
    trials = [noise(3, size) for size in sizes]
    data = {"trial": cell(*trials), "label": cell(*NAMES), "fsample": 100.0}
    data["time"] = cell(*(np.arange(size)[None] / RATE for size in sizes))
    path = save(data=data)
    with pytest.raises(ValueError, match="sampling_rate=128"):
        open_recording(path, unit="uV")
    recording = open_recording(path, unit="uV", sampling_rate=128)
    assert recording.sampling_rate == 128 and "rate: 128 Hz as given and by the times" in str(recording.notes)
    np.testing.assert_allclose(whole(open_recording(path, unit="uV", sampling_rate=128, trial=0)), trials[0])
    del data["fsample"]
    assert open_recording(save(data=data), unit="uV").sampling_rate == RATE


def test_a_gap_inside_a_trial(save):
    times = np.arange(1280) / RATE
    data = {"trial": cell(noise(3, 1280), noise(3, 1280)), "label": cell(*NAMES), "fsample": RATE}
    data["time"] = cell(times[None], (times + 2.0 * (np.arange(1280) >= 640))[None])
    recording = open_recording(save(data=data), unit="uV")
    assert lengths(recording) == [1280, 640, 640] and recording.gaps == [(10, 10), pytest.approx((15, 17))]


def eeglab(data, **fields):
    chanlocs = structs(labels=NAMES, X=[0.0] * 3)
    weights = {"icaweights": np.eye(3), "icawinv": np.eye(3)}
    return {"data": data, "srate": RATE, "chanlocs": chanlocs, **weights, **fields}


def test_eeglab(save):
    """Continuous with a boundary; epochs of three dimensions, or one after the other."""
    events = structs(latency=[129.0, 640.5, 700.0], type=["rest", "boundary", 7])
    signal = noise(3, 1280)
    recording = open_recording(save(EEG=eeglab(signal, pnts=1280, trials=1, event=events)), unit="uV")
    assert recording.names == NAMES and recording.gaps == [(5, 5)]
    assert [(onset, text) for onset, _, text in recording.events][0] == (1.0, "rest")
    np.testing.assert_allclose(whole(recording), signal)
    events["type"] = [1, -99, 7]  # EEGLAB's boundary where all events are numbers
    path = save(EEG=eeglab(signal, pnts=1280, trials=1, event=events))
    assert open_recording(path, unit="uV").gaps == [(5, 5)]
    epochs = noise(3, 200, 5)
    for data in (epochs, epochs.reshape(3, 1000, order="F")):
        recording = open_recording(save(EEG=eeglab(data, pnts=200, trials=5)), unit="uV")
        np.testing.assert_allclose(whole(recording), np.moveaxis(epochs, 2, 0))
    with pytest.raises(ValueError, match="not in this file, but in a.fdt"):
        open_recording(save(EEG=eeglab("a.fdt", pnts=200, trials=5)), unit="uV")
    with pytest.raises(ValueError, match="Several arrays.*raw.data.*clean.data"):
        open_recording(save(raw=eeglab(signal), clean=eeglab(signal)), unit="uV")
    other = eeglab(signal * 2, srate=64)
    recording = open_recording(save(raw=eeglab(signal), clean=other), unit="uV", variable="clean.data")
    assert recording.sampling_rate == 64
    np.testing.assert_allclose(whole(recording), signal * 2)


@pytest.mark.parametrize(
    ("axes", "others"),
    [
        ("nct", {"y": np.arange(5)}),
        ("ctn", {"labels": np.arange(5)}),
        ("tcn", {"true_class": np.ones((1, 5))}),
        ("ctn", {"pnts": 200}),
        ("tnc", {"trials": 5}),
        ("cnt", {"times": np.arange(200) / RATE}),
    ],
)
@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_axes_by_what_counts_them(save, axes, others, suffix):
    pieces = noise(5, 3, 200)
    arranged = np.transpose(pieces, ["nct".index(axis) for axis in axes])
    recording = open_recording(save(f"a{suffix}", x=arranged, **others), **GIVEN)
    np.testing.assert_allclose(whole(recording), pieces)
    np.testing.assert_allclose(
        whole(open_recording(save(f"a{suffix}", x=arranged, **others), trial=4, **GIVEN)), pieces[4]
    )


def test_axes_that_nothing_tells(save, tmp_path):
    """Refused; following the advice gives the right windows."""
    pieces = noise(5, 3, 512)
    for shape, suffix in (("ctn", ".mat"), ("ctn", ".npz"), ("nct", ".mat"), ("ntc", ".npz")):
        arranged = np.transpose(pieces, ["nct".index(axis) for axis in shape])
        with pytest.raises(ValueError, match=r"can't be told apart.*arrange it as \[n, C, T\].*give the array"):
            open_recording(save(f"a{suffix}", x=arranged), **GIVEN)
    np.save(tmp_path / "a.npy", pieces)
    np.testing.assert_allclose(whole(open_recording(tmp_path / "a.npy", **GIVEN)), pieces)
    batch = NeurIPTFeatureExtractor(montage="as_recorded")(pieces, **GIVEN)
    assert batch["input_values"].shape[:2] == (5, 3)
    for array in (noise(3, 3), noise(3, 3, 200)):
        np.save(tmp_path / "b.npy", array)
        with pytest.raises(ValueError, match="can't be told apart"):
            open_recording(tmp_path / "b.npy", **GIVEN)
    np.save(tmp_path / "c.npy", noise(5, 3, 200, 2))
    with pytest.raises(ValueError, match=r"has 4 dimensions.*\[C, T\] or \[n, C, T\]"):
        open_recording(tmp_path / "c.npy", **GIVEN)


def test_trials_filled_up_with_nan_end_where_their_numbers_end(save):
    pieces = noise(4, 3, 200)
    pieces[1, :, 150:] = pieces[3, :, 90:] = np.nan
    recording = open_recording(save("a.npz", x=pieces), **GIVEN)
    assert lengths(recording) == [200, 150, 200, 90] and np.isfinite(whole(recording)).all()


# Several arrays


def test_several_arrays_are_a_choice(save):
    """Raw and filtered, labels of the same size, events: listed with their shapes, and chosen by name."""
    signal = noise(3, 1280)
    for other in ({"filtered": signal / 2}, {"labels_of_samples": np.ones((3, 1280))}, {"events": np.ones((40, 3))}):
        (name,) = other
        for suffix in (".mat", ".npz"):
            path = save(f"a{suffix}", raw=signal, fs=RATE, **other)
            with pytest.raises(ValueError, match="Several arrays may be the signal") as caught:
                open_recording(path, **GIVEN)
            assert "raw ([3, 1280])" in str(caught.value) and f"{name} ({list(other[name].shape)})" in str(
                caught.value
            )
            advice = re.search(r"variable='(\w+)'", str(caught.value))[1]
            np.testing.assert_allclose(whole(open_recording(path, variable=advice, **GIVEN)), signal)
    with pytest.raises(ValueError, match="There is no array 'eeg' to choose; there are: raw"):
        open_recording(path, variable="eeg", **GIVEN)


def test_arrays_that_do_not_fit_the_names_are_not_the_signal(save):
    signal = noise(3, 1280)
    for given in (GIVEN, {"unit": "uV"}):
        path = save("a.npz", eeg=signal.T, weights=noise(7, 9), y=np.ones(12), fs=RATE, ch_names=NAMES)
        np.testing.assert_allclose(whole(open_recording(path, **given)), signal)
    with pytest.raises(ValueError, match=r"No array fits the channel names: eeg \(\[1280, 3\]\); weights"):
        open_recording(save("b.npz", eeg=signal.T, weights=noise(7, 9)), **GIVEN | {"channel_names": NAMES + ["Cz"]})


def test_names_in_the_file(save):
    signal = noise(3, 1280)
    named = save("a.npz", eeg=signal, ch_names=NAMES, channels=["F3", "F4", "Cz"], fs=RATE)
    with pytest.raises(ValueError, match="different channel names.*Fp1.*F3"):
        open_recording(named, unit="uV")
    assert open_recording(named, unit="uV", channel_names=NAMES).names == NAMES
    labels = save("b.npz", eeg=noise(6, 3, 200), labels=["left", "right"] * 3, ch_names=NAMES, fs=RATE)
    assert open_recording(labels, unit="uV").names == NAMES
    with pytest.raises(ValueError, match="has 2 names, which do not fit"):
        open_recording(save("c.npz", eeg=signal, ch_names=["C3", "C4"], fs=RATE), unit="uV")


@pytest.mark.parametrize("name", ["srate_original", "fs_raw", "original_sfreq"])
def test_several_rates(save, name):
    """Not guessed: even one alone may be that of an earlier state."""
    for rates in ({"fs": RATE, name: 1000}, {name: 1000}):
        path = save("a.npz", eeg=noise(3, 1280), ch_names=NAMES, **rates)
        with pytest.raises(ValueError, match=f"gives the rate as .*{name} = 1000.*sampling_rate="):
            open_recording(path, unit="uV")
        assert open_recording(path, unit="uV", sampling_rate=RATE).sampling_rate == RATE
    assert open_recording(save("b.npz", eeg=noise(3, 1280), fs=RATE, sfreq=RATE, ch_names=NAMES), unit="uV")
    with pytest.raises(ValueError, match="no sampling rate"):  # of stimuli
        open_recording(save("c.npz", eeg=noise(3, 1280), freq=13.0, ch_names=NAMES), unit="uV")


def test_an_array_of_objects_is_named(tmp_path):
    np.save(tmp_path / "a.npy", cell(noise(3, 300), noise(3, 500)))
    with pytest.raises(ValueError, match="trials of unequal length. Save them as x1, x2"):
        open_recording(tmp_path / "a.npy", **GIVEN)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_what_no_package_wrote_is_not_called_a_pickle(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"something else" * 20)
    with pytest.raises(ValueError, match="This is not a (MATLAB|.np[yz]) file.*corrupt, or something else"):
        open_recording(path, **GIVEN)


def test_a_vector_of_times_gives_rate_and_gaps(save):
    times = np.arange(1280) / RATE
    times[640:] += 3.0
    for extra in ({}, {"fs": RATE}):
        recording = open_recording(save("a.npz", eeg=noise(3, 1280), time=times, ch_names=NAMES, **extra), unit="uV")
        assert recording.sampling_rate == RATE and recording.gaps == [pytest.approx((5, 8))]
    path = save("c.npz", eeg=noise(3, 1280), t=noise(1280), ch_names=NAMES, fs=RATE)  # not times
    assert open_recording(path, unit="uV").gaps == []
    with pytest.raises(ValueError, match="256 Hz by the file's rate, but 128 Hz by the time stamps"):
        open_recording(save("b.npz", eeg=noise(3, 1280), time=times, ch_names=NAMES, fs=256), unit="uV")


def test_what_is_not_a_real_signal(save, tmp_path):
    signal = noise(3, 1280)
    with pytest.raises(ValueError, match=r"eeg \(complex128 \[3, 1280\]\) is complex. Save the real signal"):
        open_recording(save(eeg=signal + 1j), **GIVEN)
    np.savez(tmp_path / "a.npz", eeg=cell(noise(3, 200), noise(3, 300)))
    with pytest.raises(ValueError, match=r"eeg \(an array of objects.*Save them as x1, x2"):
        open_recording(tmp_path / "a.npz", **GIVEN)
    assert len(lengths(open_recording(save("b.npz", x1=noise(3, 200), x2=noise(3, 300)), **GIVEN))) == 2
    table = np.zeros(1280, dtype=[("C3", float), ("Cz", float)])
    with pytest.raises(ValueError, match="a table with the fields C3, Cz. Save it as an array"):
        open_recording(save("c.npz", eeg=table), **GIVEN)
    for empty in (np.empty((3, 0)), np.empty((0, 0))):
        with pytest.raises(ValueError, match="No array of numbers with channels and samples; the file has eeg"):
            open_recording(save("d.npz", eeg=empty), **GIVEN)
    with pytest.raises(ValueError, match="no channel names for its 3 channels"):
        open_recording(save("e.npz", eeg=signal, fs=RATE), unit="uV")


def test_one_channel(save):
    signal = noise(1, 1280)
    for suffix in (".mat", ".npz"):
        path = save(f"a{suffix}", x=signal, fs=RATE, y=np.ones((1, 30)))
        recording = open_recording(path, channel_names=["C3"], unit="uV")
        np.testing.assert_allclose(recording.read([0], 0, 1280), signal)


def test_a_vector_for_each_channel(save):
    signal = noise(3, 1280)
    for suffix in (".mat", ".npz"):
        path = save(f"a{suffix}", **dict(zip(NAMES, signal, strict=True)), fs=RATE, y=np.ones(30))
        recording = open_recording(path, unit="uV")
        assert recording.names == NAMES
        np.testing.assert_allclose(whole(recording), signal)
    with pytest.raises(ValueError, match=r"Several arrays may be the signal: a \(\[1, 1280\]\); b"):
        open_recording(save(a=signal[0], b=signal[1]), sampling_rate=RATE, unit="uV")


def test_files_without_a_choice_refuse_one(tmp_path, save):
    (tmp_path / "a.csv").write_text("C3,C4\n1.5,2\n2,3\n")
    for given in ({"variable": "x"}, {"trial": 0}):
        with pytest.raises(ValueError, match="Leave them out for a table"):
            open_recording(tmp_path / "a.csv", sampling_rate=RATE, **given)


@pytest.mark.parametrize("names", ["Fp1 C3 O2", "Fp1,C3,O2", "Fp1; C 3; O2", "Fp1, C3, O2,"])
def test_channel_names_in_a_cell_of_a_manifest(save, names):
    row = {"path": str(save(x=noise(3, 1280))), "sampling_rate": "128", "unit": "uV", "channel_names": names}
    assert [name.replace(" ", "") for name in open_row(row).names] == NAMES


def test_rows_of_a_manifest_choose(save):
    trials = {f"x{k}": noise(3, 300 + k) for k in (1, 2)}
    row = {"path": str(save(**trials)), "sampling_rate": "128", "unit": "uV", "channel_names": " ".join(NAMES)}
    assert lengths(open_row(row)) == [301, 302]
    np.testing.assert_allclose(whole(open_row(row | {"trial": "1"})), trials["x2"])
    np.testing.assert_allclose(whole(open_row(row | {"variable": "x1", "trial": ""})), trials["x1"])
    for column, value in (("trial", "1.5"), ("sampling_rate", "128 Hz"), ("step", "x")):
        with pytest.raises(
            ValueError, match=f"The column {column} of the manifest should hold a number.*{value}.*a.mat"
        ):
            open_row(row | {column: value})
    with pytest.raises(ValueError, match="has a step, but no unit of it"):
        open_row(row | {"step": "0.1", "unit": ""})
    pieces = save("p.npz", x=noise(5, 3, 200))
    with pytest.raises(ValueError, match="has pieces of its own: empty the column trial_seconds"):
        open_row(row | {"path": str(pieces), "trial_seconds": "0.5"})


@pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="needs h5py")
def test_matlab_7_3(tmp_path):
    """Arrays are transposed, texts are numbers, cells are references, empty arrays hold their shape."""
    import h5py

    trials = [noise(3, 300), noise(3, 500)]
    with h5py.File(tmp_path / "a.mat", "w") as file:
        references = [file.create_dataset(f"#refs#/{k}", data=trial.T) for k, trial in enumerate(trials)]
        eeg = file.create_dataset("eeg", data=np.array([[r.ref for r in references]], dtype=h5py.ref_dtype))
        eeg.attrs["MATLAB_class"] = np.bytes_("cell")
        text = file.create_dataset("names", data=np.array([[ord(c) for c in "C3"]], dtype="u2").T)
        text.attrs["MATLAB_class"] = np.bytes_("char")
        file.create_dataset("nothing", data=np.array([0, 0], dtype="u8")).attrs["MATLAB_empty"] = 1
        file.create_dataset("fs", data=np.array([[128.0]]))
    variables = read_matlab_variables(tmp_path / "a.mat")
    assert variables["names"] == "C3" and variables["nothing"].size == 0
    recording = open_recording(tmp_path / "a.mat", channel_names=NAMES, unit="uV")
    assert recording.sampling_rate == RATE and lengths(recording) == [300, 500]
    np.testing.assert_allclose(whole(recording), np.concatenate(trials, axis=1))
