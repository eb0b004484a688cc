"""Tables of text: every name gets its own column, gaps are seen by every clock, or the table is refused."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuript_hf import NeurIPTFeatureExtractor, open_recording
from neuript_hf.formats.clock import breaks_by_counter, clock_of_stamps


RATE, SECONDS = 128, 10
NAMES = ["Fp1", "C3", "O2"]
# Each channel has its own size, so that a shifted column shows.
SIGNAL = np.round(np.random.default_rng(0).normal(0, 1, (3, RATE * SECONDS)) * [[5], [20], [60]], 4)
GIVEN = {"sampling_rate": RATE, "unit": "uV"}


def rows_of(signal=SIGNAL, before=(), after=(), separator=","):
    """Lines of a table; `before` and `after` are columns of texts."""
    columns = [*before, *([f"{value:.4f}" for value in channel] for channel in signal), *after]
    return [separator.join(cells) for cells in zip(*columns, strict=True)]


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def check(recording, signal=SIGNAL, names=NAMES, gaps=()):
    assert recording.names == list(names)
    assert recording.gaps == [pytest.approx(gap, abs=1.5 / RATE) for gap in gaps]
    np.testing.assert_allclose(recording.read(range(len(names)), 0, signal.shape[1]), signal, atol=1e-9)


def count(first=1):
    return [str(k + first) for k in range(SIGNAL.shape[1])]


# Names and columns


def test_row_names_of_r_do_not_shift_the_columns(tmp_path):
    header = ",".join(f'"{name}"' for name in NAMES)
    path = write(tmp_path / "a.csv", header, *rows_of(before=[[f'"{k}"' for k in count()]]))
    recording = open_recording(path, **GIVEN)
    check(recording)
    assert any("first column has none" in note for note in recording.notes)


TABLES = {
    "plain": ([",".join(NAMES), *rows_of()], {}),
    "separators at the end of the header": ([",".join(NAMES) + ",,", *rows_of()], {}),
    "separators at the end of the rows": ([",".join(NAMES), *(row + "," for row in rows_of())], {}),
    "separators at both ends": ([",".join(NAMES) + ",", *(row + "," for row in rows_of())], {}),
    "an index without a name": (["," + ",".join(NAMES), *rows_of(before=[count(0)])], {}),
    "an index that pandas named": (["Unnamed: 0," + ",".join(NAMES), *rows_of(before=[count(0)])], {}),
    "units below the names": ([",".join(NAMES), "uV,uV,uV", *rows_of()], {}),
    "units and an empty line": ([",".join(NAMES), "(uV),(uV),(uV)", "", *rows_of()], {}),
    "quoted names": (['"Fp1","C3","O2"', *rows_of()], {}),
    "decimal commas": ([";".join(NAMES), *(row.replace(".", ",") for row in rows_of(separator=";"))], {}),
    "quoted decimal commas": (
        [
            ",".join(NAMES),
            *(",".join(f'"{c}"' for c in row.replace(".", ",").split(";")) for row in rows_of(separator=";")),
        ],
        {},
    ),
    "tabs": (["\t".join(NAMES), *rows_of(separator="\t")], {}),
    "aligned with blanks": (["  Fp1    C3  O2", *(f"  {row}" for row in rows_of(separator="   "))], {}),
    "a blank after each comma": ([", ".join(NAMES), *rows_of(separator=", ")], {}),
    "a blank before each comma": ([" ,".join(NAMES), *rows_of(separator=" ,")], {}),
    "pairs above the names": (["Sampling Rate: 128", "Subject: 3", "", ",".join(NAMES), *rows_of()], {}),
    "names in numpy's comment": (["# Fp1,C3,O2", *rows_of()], {}),
    "comments with empty lines": (["# a", "", "# b", "", ",".join(NAMES), *rows_of()], {}),
    "columns that are no signal": (
        ["Time,Accel X,Gyro Y,Battery,Marker,CQ.C3," + ",".join(NAMES) + ",label,Counter"]
        + rows_of(
            before=[[f"{k / RATE:.6f}" for k in range(1280)], *[["1.5"] * 1280] * 5], after=[["2"] * 1280, count(0)]
        ),
        {},
    ),
    "names for numbered columns": (["0,1,2", *rows_of()], {"channel_names": NAMES}),
    "names for numbered columns with an index": ([",0,1,2", *rows_of(before=[count(0)])], {"channel_names": NAMES}),
    "names for columns without a header": (rows_of(), {"channel_names": NAMES}),
    "names for all columns without a header": (
        rows_of(before=[count(0)], after=[["0"] * 1280]),
        {"channel_names": ["counter", *NAMES, "marker"]},
    ),
    "a last line that is cut off": ([",".join(NAMES), *rows_of(), "1.5,"], {}),
}


@pytest.mark.parametrize("kind", TABLES)
def test_each_name_has_its_own_column(tmp_path, kind):
    lines, given = TABLES[kind]
    recording = open_recording(write(tmp_path / "a.csv", *lines), **GIVEN, **given)
    check(recording)
    if kind == "a last line that is cut off":
        assert any("cut off and left out" in note for note in recording.notes)
    if kind == "columns that are no signal":
        assert set(recording.left_out) == {
            "Time",
            "Accel X",
            "Gyro Y",
            "Battery",
            "Marker",
            "CQ.C3",
            "label",
            "Counter",
        }


REFUSED = {
    "one name too few": (["Fp1,C3", *rows_of()], "The header has 2 names, but the rows have 3 cells"),
    "one name too many": (["Fp1,C3,O2,Cz", *rows_of()], "The header has 4 names, but the rows have 3 cells"),
    "a counter that has a name, and one name too few": (
        ["index,Fp1,C3", *rows_of(before=[count(0)])],
        "The header has 3 names, but the rows have 4 cells",
    ),
    "one name too many above separators at the end": (
        ["Cz,Fp1,C3,O2", *(row + "," for row in rows_of())],
        "The last column, 'O2', is empty",
    ),
    "a row with a cell too many": ([",".join(NAMES), *rows_of(), "1,2,3,4", *rows_of()], "Line 1282 has 4 cells, but"),
    "a row with a cell too few": ([",".join(NAMES), *rows_of(), "1,2", *rows_of()], "Line 1282 has 2 cells, but"),
    "one name twice": (["Fp1,C3,C3", *rows_of()], "Several columns have the same name: C3"),
    "one name twice, with units": (["Fp1,C3 (uV),C3 [mV]", *rows_of()], "Several columns have the same name: C3"),
    "a text among numbers": ([",".join(NAMES), "1,2,3", "1,error,3", *rows_of()], "C3 has 'error' in line 3"),
    "a header again": ([",".join(NAMES), *rows_of(), ",".join(NAMES), *rows_of()], "Fp1 has 'Fp1' in line 1282"),
    "thousands": ([";".join(NAMES), *["1.234,5;1.000,2;3,4"] * 9], "thousands"),
    "thousands in some cells": ([";".join(NAMES), *["4,5;2,2;3,4"] * 9, "1.234,5;1;2"], "Line 11 has thousands"),
    "three decimals or thousands": (
        [";".join(NAMES), *["1,234;1,000;3,400"] * 9],
        "a number above a thousand, or one",
    ),
    "a number among the names": (["Fp1,C3,17.5", *rows_of()], "has the number 17.5 among its names"),
    "a column of numbers without a name": (["Fp1,C3,", *rows_of()], "no name for column 3"),
    "other separators in the header": (["Fp1;C3;O2", *rows_of()], "The header has 1 names, but the rows have 3"),
    "two lines of names": (["EEG,EEG,EEG", ",".join(NAMES), *rows_of()], "neither names of columns nor pairs"),
    "a row for each channel": (
        [f"{name}," + ",".join(f"{v:.3f}" for v in row) for name, row in zip(NAMES, SIGNAL[:, :50], strict=True)],
        "no channel names for its 50 channels.*transpose",
    ),
    "several people": (
        [",".join(["subject", *NAMES]), *rows_of(before=[["1"] * 640 + ["2"] * 640])],
        "The table holds 2 people .subject: 1, 2",
    ),
    "hexadecimal": (["%SD card", *["0F,FFE3A1,00A2B3,FFFFFE"] * 9], "hexadecimal.*OpenBCI's GUI"),
    "two rates": (["# Sampling Rate: 128", "# sfreq = 256", ",".join(NAMES), *rows_of()], "gives several rates"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_unclear_is_refused(tmp_path, kind):
    lines, words = REFUSED[kind]
    with pytest.raises(ValueError, match=words):
        open_recording(write(tmp_path / "a.csv", *lines), **GIVEN)


@pytest.mark.parametrize("trials", [[], ["epoch"]])
def test_a_row_for_each_sample_of_each_channel(tmp_path, trials):
    """A long table would be one channel of many times the rate; a pivot, as the error says, makes it a wide one."""
    samples, path = np.arange(SIGNAL.shape[1]), tmp_path / "a.csv"
    wide = pd.DataFrame(SIGNAL.T, columns=NAMES).assign(time=samples / RATE)
    if trials:
        wide = wide.assign(epoch=samples // 640, time=samples % 640 / RATE)
    table = wide.melt([*trials, "time"], var_name="site")
    for order in (table, table.sort_values([*trials, "time"])):
        order.to_csv(path, index=False)
        with pytest.raises(ValueError, match="A row holds one channel only") as caught:
            open_recording(path, unit="uV")
        advice = re.search(r"table\.pivot\(.*'value'\)", str(caught.value))[0]
        eval(advice, {"table": table})[NAMES].to_csv(path)
        check(open_recording(path, unit="uV"), gaps=[(5, 5)] * len(trials))


def test_more_columns_than_names_without_a_header(tmp_path):
    """The advice, to name all columns, gives the right channels."""
    path = write(tmp_path / "a.txt", *rows_of(before=[count(0)]))
    with pytest.raises(
        ValueError, match=r"Got 3 channel names for 4 columns.*those that are no EEG 'time', 'counter'"
    ):
        open_recording(path, channel_names=NAMES, **GIVEN)
    check(open_recording(path, channel_names=["counter", *NAMES], **GIVEN))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_encodings(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("\r\n".join(["Fp1 (µV),C3 (µV),O2 (µV)", *rows_of()]).encode(encoding))
    recording = open_recording(path, sampling_rate=RATE)
    check(recording)
    assert recording.unit == "uV"
    path.write_bytes(b"Fp1,C3\n" + bytes(range(256)))
    with pytest.raises(ValueError, match="not a table of text"):
        open_recording(path)


# Clocks


def times(gaps=(), rate=RATE, start=1_600_000_000.0):
    """Time stamps with gaps of so many seconds before samples."""
    stamps = start + np.arange(SIGNAL.shape[1]) / rate
    for at, seconds in gaps:
        stamps[at:] += seconds
    return stamps


def stamped(path, stamps, comments=(), name="Timestamp", form="{:.6f}"):
    return write(path, *comments, ",".join([name, *NAMES]), *rows_of(before=[[form.format(t) for t in stamps]]))


@pytest.mark.parametrize("comments", [(), ("%Sample Rate = 128 Hz",)])
@pytest.mark.parametrize("seconds", [0.05, 0.3, 12.0])
def test_a_stated_rate_hides_no_gap(tmp_path, comments, seconds):
    path = stamped(tmp_path / "a.csv", times([(640, seconds)]), comments)
    recording = open_recording(path, unit="uV")
    assert recording.sampling_rate == RATE
    check(recording, gaps=[(5, 5 + seconds)])
    check(open_recording(path, **GIVEN), gaps=[(5, 5 + seconds)])
    batch = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=2.0)(recording)
    assert not any(onset < 5 + seconds and onset + 2 > 5 for onset in batch.onsets.tolist() if onset < 5)


@pytest.mark.parametrize("name", ["Time", "Timestamp (ms)", "unix_time_us"])
def test_units_of_time_stamps(tmp_path, name):
    """Seconds by fractions, others by the column's name, since 1970 by their size; what is unclear is asked for."""
    factor = {"Time": 1, "Timestamp (ms)": 1e3, "unix_time_us": 1e6}[name]
    stamps = times([(640, 3.0)], start=0.0) * factor
    check(open_recording(stamped(tmp_path / "a.csv", stamps, name=name), unit="uV"), gaps=[(5, 8)])
    since_1970 = times([(640, 3.0)]) * factor
    check(open_recording(stamped(tmp_path / "b.csv", since_1970, name="Time"), unit="uV"), gaps=[(5, 8)])
    unclear = stamped(tmp_path / "c.csv", times([(640, 3.0)], start=0.0) * 1e3, name="Time")
    with pytest.raises(ValueError, match="seconds, milliseconds, or a number of the sample.*sampling_rate=250"):
        open_recording(unclear, unit="uV")
    check(open_recording(unclear, **GIVEN), gaps=[(5, 8)])


def test_other_time_columns(tmp_path):
    """Numbers of samples, whole seconds, dates in an index without a name."""
    counts = np.where(np.arange(1280) < 640, np.arange(1280), np.arange(1280) + 256)
    check(open_recording(stamped(tmp_path / "a.csv", counts, name="time", form="{}"), **GIVEN), gaps=[(5, 7)])
    whole = np.floor(times([(640, 4.0)], start=0.0))
    recording = open_recording(stamped(tmp_path / "b.csv", whole, name="Time (s)"), **GIVEN)
    assert [(start, round(end)) for start, end in recording.gaps] == [(5, 9)]
    index = pd.Timestamp("2020-01-01") + pd.to_timedelta(times([(640, 3.0)], start=0.0), unit="s")
    pd.DataFrame(SIGNAL.T, index, NAMES).to_csv(tmp_path / "c.csv")
    check(open_recording(tmp_path / "c.csv", unit="uV"), gaps=[(5, 8)])


def test_differences_of_times(tmp_path):
    """What pandas writes for them, as of MNE's to_data_frame(time_format="datetime") without a date."""
    times = pd.to_timedelta(np.arange(SIGNAL.shape[1]) / RATE, unit="s")
    pd.DataFrame(SIGNAL.T, columns=NAMES).assign(time=times).to_csv(tmp_path / "a.csv", index=False)
    recording = open_recording(tmp_path / "a.csv", unit="uV")
    check(recording)
    assert recording.sampling_rate == RATE


def test_times_of_the_day_pass_midnight(tmp_path):
    stamps = pd.Timestamp("2020-01-01 23:59:55") + pd.to_timedelta(times([(960, 2.0)], start=0.0), unit="s")
    for form in ("%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f"):
        path = stamped(tmp_path / "a.csv", stamps.strftime(form), form="{}")
        check(open_recording(path, unit="uV"), gaps=[(7.5, 9.5)])


def test_a_rate_that_the_stamps_contradict_is_refused(tmp_path):
    """Following either advice gives the right rate."""
    path = stamped(tmp_path / "a.csv", times(rate=100), ["# Sampling rate: 128 Hz"])
    words = r"128 Hz by the header, but 100 Hz by the time stamps in 'Timestamp'.*sampling_rate=100; .*remove the time"
    with pytest.raises(ValueError, match=words):
        open_recording(path, unit="uV")
    assert open_recording(path, sampling_rate=100, unit="uV").sampling_rate == 100
    removed = write(tmp_path / "b.csv", "# Sampling rate: 128 Hz", ",".join(NAMES), *rows_of())
    assert open_recording(removed, unit="uV").sampling_rate == 128
    slightly = stamped(tmp_path / "c.csv", times(rate=127.3), ["# Sampling rate: 128 Hz"])
    recording = open_recording(slightly, unit="uV")
    assert recording.sampling_rate == 128
    assert any("128 Hz by the header, 127.3 Hz by the time stamps" in note for note in recording.notes)


def test_stamps_out_of_order(tmp_path):
    shuffled = np.random.default_rng(0).permutation(times())
    with pytest.raises(ValueError, match="do not ascend.*Sort the rows by time"):
        open_recording(stamped(tmp_path / "a.csv", shuffled), **GIVEN)
    two = np.concatenate([times()[:640], times(start=1_500_000_000.0)[:640]])
    recording = open_recording(stamped(tmp_path / "b.csv", two), **GIVEN)
    check(recording, gaps=[(5, 5)])
    assert any("go back 1 times, first at sample 640" in note for note in recording.notes)
    path = tmp_path / "c.csv"
    lines = stamped(path, times()).read_text().splitlines()
    write(path, *lines[:500], *lines[498:])  # the last two rows once more
    recording = open_recording(path, **GIVEN)
    check(recording, np.insert(SIGNAL, [499], SIGNAL[:, 497:499], axis=1), gaps=[(499 / RATE, 499 / RATE)])
    write(path, *(line for line in lines for _ in range(2 if line is lines[300] else 1)))
    recording = open_recording(path, **GIVEN)
    check(recording)
    assert any("1 rows repeat the row before" in note for note in recording.notes)
    lines[60] = "x," + lines[60].split(",", 1)[1]
    with pytest.raises(ValueError, match="Timestamp has 'x' in line 61"):
        open_recording(write(path, *lines), **GIVEN)
    recording = open_recording(stamped(path, ["noon"] * 1280, form="{}"), **GIVEN)
    assert "note: Timestamp holds no times that can be read; gaps are not looked for in it" in recording.notes
    lines[50] = "," + lines[50].split(",", 1)[1]
    with pytest.raises(ValueError, match=r"Timestamp: 0.08% of the rows have no time stamp"):
        open_recording(write(path, *lines), **GIVEN)


def test_bunches_and_delays_are_no_gaps():
    """A radio delivers twelve samples at once, late by some time; one pause of a second, after which they catch up."""
    generator = np.random.default_rng(0)
    arrival = np.repeat(np.arange(400 * 12)[11::12] / 250 + generator.exponential(0.02, 400), 12)
    arrival[1200:1500] = np.maximum(arrival[1200:1500], arrival[1499])
    assert clock_of_stamps(arrival, "t", 250).breaks == []
    arrival[2400:] += 0.5
    ((at, seconds),) = clock_of_stamps(arrival, "t", None).breaks
    assert at == 2400 and seconds == pytest.approx(0.5, abs=0.05)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rate=st.sampled_from([128, 250, 256, 500]),
    stated=st.booleans(),
    rounded=st.booleans(),
    gaps=st.dictionaries(st.integers(300, 4700), st.floats(0.05, 20), max_size=3),
)
def test_arbitrary_gaps_in_stamps(rate, stated, rounded, gaps):
    stamps = np.arange(5000) / rate
    for at, seconds in gaps.items():
        stamps[at:] += seconds
    clock = clock_of_stamps(np.round(stamps, 3) if rounded else stamps, "t", float(rate) if stated else None)
    assert clock.rate == rate
    assert [at for at, _ in clock.breaks] == sorted(gaps)
    assert [seconds for _, seconds in clock.breaks] == pytest.approx([gaps[at] for at in sorted(gaps)], abs=3e-3)


@pytest.mark.parametrize(
    ("counter", "lost"),
    [
        (np.arange(3000) % 256, [(1000, 10)]),  # OpenBCI
        (np.arange(3000) * 2 % 256, [(1000, 10)]),  # with Daisy
        (np.arange(3000) // 2 % 200 + 1, [(1000, 10)]),  # Ganglion: two samples in a packet
        (np.arange(3000) % 128, [(1000, 10)]),  # Emotiv
        (np.arange(3000), [(1000, 700)]),  # rows
        (np.arange(3000) // 12 % 65536, [(1200, 24)]),  # Muse
    ],
)
def test_packet_numbers(counter, lost):
    kept = np.delete(counter, slice(lost[0][0], lost[0][0] + lost[0][1])).astype(float)
    breaks, notes = breaks_by_counter(kept, 250)
    assert notes == [] and [at for at, _ in breaks] == [lost[0][0]]
    assert breaks[0][1] == pytest.approx(lost[0][1] / 250)
    assert breaks_by_counter(counter.astype(float), 250) == ([], [])


def test_a_single_missing_sample_is_noted_and_no_gap():
    clock = clock_of_stamps(np.delete(np.arange(2000) / 250, [700, 1200]), "t", 250)
    assert clock.breaks == [] and "2 single samples are missing by the time stamps, first at 700" in clock.notes[0]
    breaks, notes = breaks_by_counter(np.delete(np.arange(2000) % 256, [700, 1200]).astype(float), 250)
    assert breaks == [] and "2 single samples are missing by the numbers of the packets" in notes[0]
    assert len(clock_of_stamps(np.delete(np.arange(2000) / 250, [700, 701]), "t", 250).breaks) == 1


def test_a_counter_that_begins_again_is_another_recording():
    breaks, notes = breaks_by_counter(np.concatenate([np.arange(1000.0), np.arange(700.0)]), 250)
    assert breaks == [(1000, 0.0)] and "begin again 1 times" in notes[0]
    breaks, notes = breaks_by_counter(np.random.default_rng(0).integers(0, 256, 1000).astype(float), 250)
    assert breaks == [] and "do not count evenly" in notes[0]


def test_trials_of_a_table_without_a_clock(tmp_path):
    path = write(tmp_path / "a.csv", ",".join([*NAMES, "trial"]), *rows_of(after=[["1"] * 640 + ["2"] * 640]))
    check(open_recording(path, **GIVEN), gaps=[(5, 5)])
    # time between trials has no number
    path = write(
        tmp_path / "b.csv", ",".join([*NAMES, "trial"]), *rows_of(after=[["1"] * 512 + [""] * 256 + ["2"] * 512])
    )
    recording = open_recording(path, **GIVEN)
    check(recording, gaps=[(4, 4), (6, 6)])
    assert any(note.startswith("trials: 2 by 'trial'") for note in recording.notes)
    path = write(tmp_path / "c.csv", ",".join([*NAMES, "trial"]), *rows_of(after=[[str(k) for k in range(1280)]]))
    recording = open_recording(path, **GIVEN)
    check(recording)
    assert any("'trial' changes 1279 times" in note for note in recording.notes)


# What devices write


def test_openbci_formats(tmp_path):
    """GUI 5 and later, where time stamps or the sample's number show the gap, and the older text without names."""
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    comments = ["%OpenBCI Raw EXG Data", "%Number of channels = 3", "%Sample Rate = 128 Hz", "%Board = Cyton"]
    header = (
        "Sample Index, EXG Channel 0, EXG Channel 1, EXG Channel 2, Accel Channel 0, Not Used, Not Used, Timestamp"
    )
    number = np.arange(SIGNAL.shape[1])
    after_loss = np.where(number < 640, number, number + 50)
    for gaps, index in (([(640, 12.0)], number), ([], after_loss)):
        before, after = [[str(k % 256) for k in index]], [["0.1"] * 1280] * 3 + [[f"{t:.3f}" for t in times(gaps)]]
        path = write(
            tmp_path / "OpenBCI-RAW.txt", *comments, header, *rows_of(before=before, after=after, separator=", ")
        )
        recording = open_recording(path, channel_names=NAMES)
        check(recording, gaps=[(5, 17 if gaps else 5 + 50 / RATE)])
        assert recording.unit == "uV" and recording.left_out["Accel Channel 0"] == "not from the amplifier"
        assert all(onset <= 1 or onset >= 5 for onset in extractor(recording).onsets)
    write(path, *comments, *rows_of(before=before, after=[["0.1"] * 1280], separator="; "))
    check(open_recording(path, channel_names=NAMES), gaps=[(5, 5 + 50 / RATE)])
    with pytest.raises(ValueError, match="no channel names for its 3 channels"):
        open_recording(path)
    write(path, *[c.replace("= 3", "= 16") for c in comments], header, *rows_of(before=before, after=after))
    with pytest.raises(ValueError, match="The header says 16 channels, but"):
        open_recording(path, channel_names=NAMES)


def test_emotiv(tmp_path):
    """EmotivPRO's line of pairs above the names, and what the headset made up; the older TestBench's labels."""
    first = (
        "title:a, start timestamp:1600000000.0, headset type:EPOCX, channels:9, sampling rate:eeg_128, samples:1280,"
    )
    names = [
        "Timestamp",
        "EEG.Counter",
        "EEG.Interpolated",
        *(f"EEG.{name}" for name in NAMES),
        "EEG.Battery",
        "MarkerIndex",
        "CQ.Overall",
        "POW.C3.Theta",
        "PM.Stress.Scaled",
    ]
    made_up = ["1" if 300 <= k < 400 else "0" for k in range(1280)]
    before = [[f"{t:.6f}" for t in times()], [str(k % 128) for k in range(1280)], made_up]
    rows = rows_of(SIGNAL + 4200, before, [["90"] * 1280, [""] * 1280, *[["1.5"] * 1280] * 3])
    path = write(tmp_path / "a.csv", first, ",".join(names), *rows)
    recording = open_recording(path)
    check(recording, SIGNAL + 4200, [f"EEG.{name}" for name in NAMES])
    assert recording.sampling_rate == 128 and recording.unit == "uV" and len(recording.left_out) == 8
    assert recording.events == [(pytest.approx(300 / 128), pytest.approx(100 / 128), "BAD_interpolated")]
    write(
        path,
        "title:a, sampling:128, labels:COUNTER Fp1 C3 O2 GYROX, chan:5",
        *rows_of(before=[before[1]], after=[["7"] * 1280]),
    )
    check(open_recording(path, unit="uV"))


def test_mind_monitor(tmp_path):
    """Band powers and quality are no channels, and the row of a blink is no sample."""
    names = [
        "TimeStamp",
        "Delta_TP9",
        *(f"RAW_{name}" for name in ("TP9", "AF7", "TP10")),
        "AUX_RIGHT",
        "Accelerometer_X",
        "HSI_TP9",
        "Battery",
        "Elements",
    ]
    stamps = (pd.Timestamp("2024-01-01") + pd.to_timedelta(times(start=0.0), unit="s")).strftime(
        "%Y-%m-%d %H:%M:%S.%f"
    )
    rows = rows_of(SIGNAL + 800, [list(stamps), ["0.5"] * 1280], [["800"] * 1280, *[["1"] * 1280] * 3, [""] * 1280])
    rows.insert(256, f"{stamps[255]},,,,,,,,,/muse/elements/blink")
    recording = open_recording(write(tmp_path / "a.csv", ",".join(names), *rows), unit="uV")
    check(recording, SIGNAL + 800, ["RAW_TP9", "RAW_AF7", "RAW_TP10"])
    assert recording.events == [(2.0, 0.0, "/muse/elements/blink")]


def test_openvibe(tmp_path):
    header = ",".join(["Time:128Hz", "Epoch", *NAMES, "Event Id", "Event Date", "Event Duration"])
    rows = rows_of(
        before=[[f"{k / RATE:.7f}" for k in range(1280)], [str(k // 32) for k in range(1280)]], after=[[""] * 1280] * 3
    )
    check(open_recording(write(tmp_path / "a.csv", header, *rows), unit="uV"))
    older = rows_of(before=[[f"{k / RATE:.7f}" for k in range(1280)]], after=[["128"] + [""] * 1279], separator=";")
    header = ";".join(["Time (s)", *NAMES, "Sampling Rate"])
    check(open_recording(write(tmp_path / "b.csv", header, *older), unit="uV"))


# Whatever a header may be


WORDS = st.sampled_from(["Cz", "time", "index", "", "1", "2.5", '"T7"', "uV", "label", " Pz ", "O2"])


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    order=st.permutations(NAMES),
    edits=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["replace", "insert", "delete"]), WORDS), max_size=2),
    index=st.sampled_from([None, 0, 1, 7]),
    end=st.sampled_from(["", ","]),
    separator=st.sampled_from([",", ";", "\t", " "]),
    above=st.sampled_from([[], ["# comment"], ["a:1,b:2"], ["text"], [""]]),
    damage=st.sampled_from([None, None, "a cell less", "a cell more", "a text", "an empty cell"]),
)
def test_arbitrary_tables(tmp_path_factory, order, edits, index, end, separator, above, damage):
    """Either every named column is what stands below its name, or the table is refused; damaged rows always are."""
    header = ["", *order] if index is not None else list(order)
    for at, what, word in edits:
        header[at : at + (what != "insert")] = [word] * (what != "delete")
    signal, path = SIGNAL[:, :40], tmp_path_factory.mktemp("t") / "a.csv"
    before = [] if index is None else [[str(k + index) for k in range(40)]]
    cells = [row.split(separator) for row in rows_of(signal, before, separator=separator)]
    if damage is not None:
        changes = {"a cell less": [], "a cell more": ["1.0", "2.0"], "a text": ["x"], "an empty cell": [""]}
        cells[20][-2:-1] = changes[damage]
    rows = [separator.join(row) + end for row in cells]
    try:
        recording = open_recording(write(path, *above, separator.join(header), *rows), **GIVEN)
    except ValueError as error:
        OUTCOMES["refused"] += 1
        assert len(str(error)) > 40
        return
    OUTCOMES["accepted"] += 1
    assert damage not in ("a cell less", "a cell more")
    if damage == "an empty cell":
        signal = signal.copy()
        signal[-2, 20] = np.nan
    columns = [*([] if index is None else [np.arange(40.0) + index]), *signal]
    names = [name.strip(' "') for name in header if name or separator != " "]
    while len(names) > len(columns) and not names[-1]:
        names.pop()
    if len(names) == len(columns) - 1 and index in (0, 1):
        names.insert(0, "")  # row names of R
    assert len(names) == len(columns)
    assert damage != "a text" or names[-2] not in recording.names
    for number, name in enumerate(recording.names):
        np.testing.assert_allclose(recording.read([number], 0, 40)[0], columns[names.index(name)], atol=1e-9)


OUTCOMES = {"accepted": 0, "refused": 0}


def test_arbitrary_tables_reach_both_ends():
    if not sum(OUTCOMES.values()):
        pytest.skip("runs after test_arbitrary_tables")
    assert min(OUTCOMES.values()) > 5, OUTCOMES
