"""
Files that are not what they seem: each error says what is wrong, and following its advice gives the right recording.
"""

import gzip
import re
import shutil

import mne
import numpy as np
import pytest
import scipy.io
from conftest import make_epochs, make_raw, write_edf
from edfio import EdfAnnotation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuript_hf import NeurIPTFeatureExtractor, open_recording
from neuript_hf.recordings import as_recording


RATE, SECONDS = 128, 20
NAMES = ["C3", "Cz", "C4"]
# Where a header has its fields: of the whole file, and of the first of its signals (three, and the annotations).
FIELDS = {"records": 236, "record_seconds": 244}
FIELDS |= {name: 256 + 4 * at for name, at in (("minimum", 104), ("maximum", 112), ("least", 120), ("most", 128))}


@pytest.fixture(scope="module")
def microvolts():
    return np.random.default_rng(0).normal(0, 20, (3, SECONDS * RATE))


@pytest.fixture
def edf(tmp_path, microvolts):
    """A function that writes an EDF file, and changes fields of its header, 8 characters each."""

    def write(name="a.edf", unit="uV", factor=1.0, rates=(RATE,) * 3, annotations=None, **fields):
        signals = [
            (label, rate, unit, numbers[: SECONDS * rate] * factor)
            for label, rate, numbers in zip(NAMES, rates, microvolts, strict=True)
        ]
        path = write_edf(tmp_path / name, signals, (-400 * factor, 400 * factor), annotations=annotations or [])
        for field, texts in fields.items():
            put(path, FIELDS[field], texts)
        return path

    return write


def put(path, start, texts):
    """Overwrites one field of a header, or those of several signals in a row."""
    data = bytearray(path.read_bytes())
    for number, text in enumerate([texts] if isinstance(texts, str) else texts):
        data[start + 8 * number : start + 8 * number + 8] = text.encode("latin-1").ljust(8)
    path.write_bytes(data)


def check(recording, expected, names=NAMES, rate=RATE):
    assert recording.names == names and recording.sampling_rate == pytest.approx(rate)
    signal = recording.read(range(len(names)), 0, expected.shape[1])
    np.testing.assert_allclose(signal, expected, atol=0.02)


def refusal(path, **given):
    """The error's text, which names the file once."""
    with pytest.raises(ValueError) as caught:
        open_recording(path, **given)
    text = str(caught.value)
    assert text.count(str(path)) == 1 and text.endswith(f"(file name: {path})"), text
    return text.removesuffix(f" (file name: {path})")


# Files that are something else


HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
FOREIGN = {
    "not an EDF file, it looks like HTML": HTML * 20,
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "JSON": b'\n{"message": "Not Found"}',
    "Git LFS.*git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "git-annex.*datalad get": b"/annex/objects/MD5E-s123--abc.edf\n",
    r"macOS.*without \._": b"\0\x05\x16\x07\0\2\0\0Mac OS X        " + bytes(200),
    "Excel workbook.*csv": b"PK\3\4\24\0\6\0\10\0\0\0!\0[Content_Types].xml" + bytes(50),
    "ZIP archive. Unpack it": b"PK\3\4\24\0\0\0\0\0a.edf" + bytes(50),
    "gzip. Unpack it": gzip.compress(b"x" * 1000),
    "a packed file. Unpack it": b"7z\xbc\xaf\x27\x1c" + bytes(50),
    "PDF": b"%PDF-1.7\n" + bytes(50),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "video": b"\0\0\0\x20ftypisom" + bytes(50),
    "text document": b"{\\rtf1 hello}",
}


@pytest.mark.parametrize(("words", "content"), FOREIGN.items(), ids=range(len(FOREIGN)))
def test_what_is_no_recording_is_named(tmp_path, words, content):
    for ending in (".edf", ".set", ".csv", ".fif", ".nxe"):
        (tmp_path / f"a{ending}").write_bytes(content)
        assert re.search(words.replace("an EDF", ".*"), refusal(tmp_path / f"a{ending}"))
    assert re.search(words, refusal(tmp_path / "a.edf"))


def test_a_packed_file_opens_once_it_is_unpacked(tmp_path, edf, microvolts):
    packed = tmp_path / "b.edf.gz"
    packed.write_bytes(gzip.compress(edf().read_bytes()))
    assert "packed with gzip. Unpack it" in refusal(packed)
    (tmp_path / "b.edf").write_bytes(gzip.decompress(packed.read_bytes()))
    check(open_recording(tmp_path / "b.edf"), microvolts)


@pytest.mark.parametrize("ending", [".bdf", ".csv", ".set", ".fif", ".vhdr", ".cnt", ".mat", ".dat", ""])
def test_an_ending_that_lies_is_named_and_renaming_helps(edf, microvolts, ending):
    path = edf()
    path = path.rename(path.with_suffix(ending))
    name = re.search("looks like EDF.* Rename the file to (a.edf)", refusal(path))[1]
    check(open_recording(path.rename(path.with_name(name))), microvolts)


def test_a_bdf_under_the_name_of_an_edf(edf, microvolts):
    path = edf("a.bdf")
    path = path.rename(path.with_suffix(".edf"))
    name = re.search("looks like BDF.* Rename the file to (a.bdf)", refusal(path))[1]
    check(open_recording(path.rename(path.with_name(name))), microvolts)


def test_a_folder_is_not_a_recording(tmp_path, edf):
    edf()
    assert "This is a folder, not a recording; it holds a.edf" in refusal(tmp_path)


def test_a_file_that_may_not_be_read_is_not_called_corrupt(edf, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    path = edf()
    monkeypatch.setattr("neuript_hf.formats.files.refuse_foreign_content", refuse)
    with pytest.raises(PermissionError):
        open_recording(path)


# EDF headers that can't be


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9", "1e-7"])
def test_a_length_of_a_record_that_cannot_be(edf, microvolts, seconds):
    """MNE takes 0 for 1 second, and a negative rate for a rate."""
    path = edf(record_seconds=seconds, annotations=[EdfAnnotation(5, 1, "blink")])
    text = refusal(path)
    assert "length of a record" in text and "sampling_rate=" in text and "128 samples" in text
    recording = open_recording(path, sampling_rate=RATE)
    check(recording, microvolts)
    assert recording.seconds == SECONDS and (5.0, 1.0, "blink") in recording.events
    assert f"rate: {RATE} Hz as given; the header's length of a record is wrong" in recording.notes
    assert open_recording(path, sampling_rate=2 * RATE).seconds == SECONDS / 2


def test_a_length_of_a_record_with_a_decimal_comma(edf, microvolts):
    path = edf(record_seconds="1,0")
    assert "write it with a decimal point" in refusal(path)
    path.write_bytes(path.read_bytes().replace(b"1,0 ", b"1.0 ", 1))
    check(open_recording(path), microvolts)


def test_a_clock_that_contradicts_the_length_of_a_record(edf, microvolts):
    """Records of 1 second by their time stamps, of 2 by the header; MNE reads half the rate."""
    path = edf(record_seconds="2", annotations=[EdfAnnotation(5, 1, "blink")])
    text = refusal(path)
    assert "64 Hz by the header, 128 Hz by the clock" in text
    check(open_recording(path, sampling_rate=RATE), microvolts)
    check(open_recording(path, sampling_rate=RATE / 2), microvolts, rate=RATE / 2)


def change_clock(path, onset_of):
    """Other time stamps of the records, in the annotations after three signals."""
    data = bytearray(path.read_bytes())
    record = (len(data) - 1280) // SECONDS
    for number in range(SECONDS):
        start = 1280 + number * record + 6 * RATE
        data[start : 1280 + (number + 1) * record] = onset_of(number).ljust(record - 6 * RATE, b"\0")
    path.write_bytes(data)


def test_clocks_that_say_nothing_about_the_rate(edf, microvolts):
    """Rounded to whole seconds, with a gap, or empty."""
    for onset_of in (lambda n: b"+%d\x14\x14" % (n * 1.5), lambda n: b"+%d\x14\x14" % (n * 1.5 + 40 * (n > 9))):
        path = edf(record_seconds="1.5", annotations=[EdfAnnotation(5, 1, "a longer description")])
        change_clock(path, onset_of)
        assert open_recording(path).sampling_rate == pytest.approx(RATE / 1.5)
    path = edf(annotations=[EdfAnnotation(5, 1, "blink")])
    change_clock(path, lambda n: b"")
    check(open_recording(path), microvolts)


@pytest.mark.parametrize("late", [(SECONDS // 2,), (SECONDS // 3, 2 * SECONDS // 3)])
def test_gaps_of_a_clock_are_no_wrong_length_of_a_record(edf, late):
    path = edf(annotations=[EdfAnnotation(5, 1, "a longer description")])
    change_clock(path, lambda n: b"+%.2f\x14\x14" % (n + 3.25 * sum(n >= at for at in late)))
    gaps = open_recording(path).gaps
    assert [round(start - 3.25 * k) for k, (start, _) in enumerate(gaps)] == list(late)
    assert [end - start for start, end in gaps] == [pytest.approx(3.25)] * len(late)


def test_gaps_without_a_clock_are_noted(tmp_path, microvolts):
    """EDF+D says that there are some, but only annotations can say where."""
    path = write_edf(
        tmp_path / "a.edf", [(name, RATE, "uV", row) for name, row in zip(NAMES, microvolts, strict=True)]
    )
    put(path, 192, "EDF+D")
    assert "but has no clock that says where" in str(open_recording(path).notes)
    assert "but has no clock that says where" in str(as_recording(mne.io.read_raw(path, verbose="ERROR")).notes)


RANGES = {
    "no physical range": {"minimum": ["0"] * 3, "maximum": ["0"] * 3},
    "a physical range that is no number": {"minimum": ["nan"] * 3},
    "no digital range": {"least": ["5"] * 3, "most": ["5"] * 3},
    "an inverted digital range": {"least": ["32767"] * 3, "most": ["-32768"] * 3},
}


@pytest.mark.parametrize("fields", RANGES.values(), ids=RANGES)
def test_a_range_that_cannot_be_is_refused_until_it_is_corrected(edf, microvolts, fields):
    """MNE puts 1 in its place, so that 20 microvolts become 0.025."""
    path = edf(**fields)
    text = refusal(path)
    assert re.search("how many microvolts a step is: C3 has a (physical|digital) range of", text)
    right = {"physical minimum": "-400", "physical maximum": "400", "digital minimum": "-32768"}
    for what, value in (right | {"digital maximum": "32767"}).items():
        start = re.search(rf"{what}[^,]*? from(?: byte)? (\d+)", text)[1]
        put(path, int(start), [value] * 3)
    check(open_recording(path), microvolts)


def test_one_range_that_cannot_be_leaves_its_channel_out(edf, microvolts):
    path = edf(minimum=["-400", "0", "-400"], maximum=["400", "0", "400"])
    report = NeurIPTFeatureExtractor(montage="as_recorded")(path).report
    assert [row.name for row in report.channels] == ["C3", "C4"]
    assert "a physical range of 0 to 0 uV" in report.dropped["Cz"]


def test_an_inverted_physical_range_turns_the_signal_and_is_said(edf, microvolts):
    """EDF allows it: the amplifier inverts."""
    path = edf(minimum=["-400", "400", "-400"], maximum=["400", "-400", "400"])
    check(open_recording(path), microvolts * [[1], [-1], [1]])
    note = "note: turned upside down, as the header's physical range says: Cz"
    assert note in str(NeurIPTFeatureExtractor(montage="as_recorded")(path).report)


@pytest.mark.parametrize("field", ["minimum", "maximum", "least", "most"])
@pytest.mark.parametrize("text", ["", "abc", "±400"])
def test_a_field_that_is_no_number_is_named(edf, field, text):
    kind = {"minimum": "physical minimum", "maximum": "physical maximum", "least": "digital minimum"}
    assert f"its {kind.get(field, 'digital maximum')} of C3 should be a number, but is {text!r}" in refusal(
        edf(**{field: text})
    )


def test_a_wrong_size_of_the_header(edf, microvolts):
    path = edf()
    put(path, 184, "512")
    assert "its own size as 512 bytes, but 4 signals take 1280" in refusal(path)
    put(path, 184, "1280")
    check(open_recording(path), microvolts)


@pytest.mark.parametrize("records", ["-1", "10", "30"])
def test_a_wrong_number_of_records_is_read_and_noted(edf, microvolts, records):
    recording = open_recording(edf(records=records))
    check(recording, microvolts)
    assert any(f"promises {records} records, the file has 20" in note for note in recording.notes) == (records != "-1")


def test_of_several_rates_one_is_chosen_aloud(edf, microvolts):
    path = edf(rates=(RATE, RATE // 2, RATE // 2))
    recording = open_recording(path)
    check(recording, microvolts[1:, : SECONDS * RATE // 2], NAMES[1:], RATE / 2)
    assert "EEG channels of several rates; 1 at 128 Hz are left out" in recording.notes[0]
    check(open_recording(path, sampling_rate=RATE), microvolts[:1], ["C3"])


def test_samples_outside_the_digital_range_are_noted(edf):
    note = "samples outside the header's digital range, whose scale may be wrong: C3, C4"
    path = edf(least=["-100", "-32768", "-100"], most=["100", "32767", "100"])
    assert any(note in text for text in open_recording(path).notes)
    assert open_recording(edf("b.edf")).notes == []


def test_steps_that_are_too_coarse_for_eeg_are_noted(edf):
    path = edf(minimum=["-400", "-1e6", "-400"], maximum=["400", "1e6", "400"])
    assert any(
        "a step of more than 10 microvolts" in note and note.endswith(": Cz") for note in open_recording(path).notes
    )


def test_one_label_for_two_signals(edf, microvolts):
    """MNE numbers them; both are read, and the extractor asks which is right."""
    path = edf()
    data = path.read_bytes()
    path.write_bytes(data[:256] + data[256:272] * 2 + data[288:])
    check(open_recording(path), microvolts, ["C3-0", "C3-1", "C4"])
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    with pytest.raises(ValueError, match="'C3-0' and 'C3-1' name the same place.*raw.drop_channels"):
        extractor(path)
    raw = mne.io.read_raw_edf(path, verbose="ERROR").drop_channels("C3-1")
    expected = extractor(microvolts[[0, 2]], sampling_rate=RATE, channel_names=["C3", "C4"], unit="uV")
    np.testing.assert_allclose(extractor(raw)["input_values"], expected["input_values"], atol=3e-3)


@settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.sampled_from([184, 192, 236, 244, 252, *range(672, 800, 8), *range(1120, 1152, 8)]),
    text=st.text(st.characters(max_codepoint=255), max_size=8) | st.floats().map(lambda x: f"{x:.4g}"[:8]),
)
def test_any_field_of_a_header_is_used_or_refused(edf, start, text):
    path = edf("any.edf")
    put(path, start, text if start != 252 else text[:4])
    try:
        recording = open_recording(path)
    except ValueError as error:
        assert str(path) in str(error)
        return
    assert 0 < recording.sampling_rate < 1e6 and recording.seconds > 0
    usable = [index for index, kind in enumerate(recording.types) if kind == "eeg"]
    assert usable and np.isfinite(recording.read(usable, 0, 100)).all()


def test_a_broken_table_of_bids_is_named_with_its_recording(edf):
    path = edf("sub-01_task-x_eeg.edf")
    path.with_name("sub-01_task-x_events.tsv").write_text("onset\tduration\nsoon\t1\n")
    assert "events.tsv beside the file is broken" in refusal(path)


# Units


@pytest.mark.parametrize(("said", "truth", "factor"), [("uV", "V", 1e-6), ("V", "uV", 1.0), ("mV", "uV", 1.0)])
def test_a_wrong_unit_and_the_one_that_the_error_advises(edf, microvolts, said, truth, factor):
    path = edf(unit=said, factor=factor)
    with pytest.raises(ValueError, match=f"Taken as {said}.*unit='{truth}'") as caught:
        NeurIPTFeatureExtractor(montage="as_recorded")(path)
    unit = re.search(r"unit='(\w+)'", str(caught.value))[1]
    recording = open_recording(path, unit=unit)
    check(recording, microvolts)
    assert f"unit: {unit} as given, in place of the file's {said} (3 channels)" in recording.notes


def test_a_given_unit_fills_in_what_is_missing(tmp_path, microvolts):
    """Two channels in microvolts, one without a unit in millivolts: the unit is for the third."""
    signals = [
        (n, RATE, u, x * f) for n, u, x, f in zip(NAMES, ("uV", "", "uV"), microvolts, (1, 1e-3, 1), strict=True)
    ]
    check(open_recording(write_edf(tmp_path / "a.edf", signals), unit="mV"), microvolts)


def test_a_given_unit_takes_the_place_of_one_that_is_none(edf, microvolts):
    """But temperature beside microvolts stays temperature."""
    check(open_recording(edf(unit="?V"), unit="uV"), microvolts)
    path = edf("b.edf")
    put(path, 256 + 96 * 4 + 8, "degC")
    assert open_recording(path, unit="uV").types == ["eeg", "unit degC, which is not a voltage", "eeg"]


@settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(size=st.floats(-8, 5))
def test_a_missing_unit_is_right_or_refused(tmp_path, microvolts, size):
    """Whatever the numbers' size, the signal is EEG in microvolts, or the error asks."""
    numbers = microvolts * 10**size / 20
    path = write_edf(tmp_path / "a.edf", [(n, RATE, "", x) for n, x in zip(NAMES, numbers, strict=True)])
    try:
        recording = open_recording(path)
    except ValueError as error:
        assert "Give the unit of the numbers" in str(error)
        return
    spread = recording.read([0, 1, 2], 0, 2000).std()
    assert 0.9 <= spread <= 330 and any("Give unit= to be sure" in note for note in recording.notes)


def test_steps_of_an_amplifier_without_a_unit(edf, microvolts):
    """The error's second advice: multiply by the size of a step and pass the array."""
    path = edf(unit="", factor=50)
    assert "multiply them by a step's microvolts and pass the array, unit='uV'" in refusal(path)
    numbers = mne.io.read_raw_edf(path, verbose="ERROR").get_data()  # an empty unit is not scaled
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    batch = extractor(numbers / 50, sampling_rate=RATE, channel_names=NAMES, unit="uV")
    expected = extractor(microvolts, sampling_rate=RATE, channel_names=NAMES, unit="uV")
    np.testing.assert_allclose(batch["input_values"], expected["input_values"], atol=3e-3)


# GDF


def write_gdf(path, microvolts, minimum=-400.0, maximum=400.0, least=-32768.0, most=32767.0, promised=SECONDS):
    """GDF 2.20 by hand: records of a second, 16 bits."""
    count = len(microvolts)
    fixed, table = bytearray(256), bytearray(256 * count)
    fixed[:8], fixed[184:186] = b"GDF 2.20", (count + 1).to_bytes(2, "little")
    fixed[236:244] = promised.to_bytes(8, "little")
    fixed[244:252], fixed[252:254] = np.array([1, 1], "<u4").tobytes(), count.to_bytes(2, "little")
    columns = [
        (102, "<u2", 4275),
        (104, "<f8", minimum),
        (112, "<f8", maximum),
        (120, "<f8", least),
        (128, "<f8", most),
    ]
    for at, kind, value in [*columns, (216, "<u4", RATE), (220, "<u4", 3)]:
        column = np.full(count, value, kind).tobytes()
        table[at * count : at * count + len(column)] = column
    for number, name in enumerate(NAMES):
        table[16 * number : 16 * number + 16] = name.encode().ljust(16, b"\0")
    steps = np.rint((microvolts + 400) * 65535 / 800 - 32768).astype("<i2")
    records = steps.reshape(count, -1, RATE).swapaxes(0, 1)
    path.write_bytes(bytes(fixed + table) + records.tobytes())
    return path


@pytest.mark.filterwarnings("ignore")
def test_gdf_headers_that_cannot_be(tmp_path, microvolts):
    check(open_recording(write_gdf(tmp_path / "a.gdf", microvolts)), microvolts)
    for fields in ({"minimum": 0.0, "maximum": 0.0}, {"least": 7.0, "most": 7.0}, {"maximum": np.nan}):
        text = refusal(write_gdf(tmp_path / "a.gdf", microvolts, **fields))
        assert "does not say how many microvolts a step is: it has a" in text
    text = refusal(write_gdf(tmp_path / "a.gdf", microvolts, promised=99))
    assert f"its header promises {99 * RATE} samples, but their end can't be read" in text


# FIF


def save_split(folder, kind="raw", naming="neuromag"):
    """80 seconds of 11 channels in two files or more, and the first file."""
    names = "Fp1 Fp2 F3 F4 C3 Cz C4 P3 P4 O1 O2".split()
    raw = make_raw(np.random.default_rng(0).normal(0, 1e-5, (11, 80 * 1000)), names, 1000)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "epo":
        raw = mne.make_fixed_length_epochs(raw, 4.0, preload=True)
    raw.save(
        folder / f"x_{kind}.fif",
        split_size="2MB",
        split_naming=naming,
        **({"buffer_size_sec": 1} if kind == "raw" else {}),
    )
    files = sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name))
    assert len(files) >= 2
    return files


@pytest.mark.parametrize("kind", ["raw", "epo"])
@pytest.mark.parametrize("naming", ["neuromag", "bids"])
def test_parts_of_a_recording_in_several_files(tmp_path, kind, naming):
    first, second, *_ = save_split(tmp_path, kind, naming)
    assert open_recording(first).seconds == 80 and open_recording(first).notes == []
    later = open_recording(second)
    assert later.seconds < 80
    assert "a later part of a recording that was split" in later.notes[0] and "x_" in later.notes[0]
    second.rename(tmp_path / "elsewhere.fif")
    missing = re.search(r"goes on in (\S+), which is not beside this file", refusal(first))[1]
    (tmp_path / "elsewhere.fif").rename(tmp_path / missing)
    assert open_recording(first).seconds == 80


def test_fif_is_read_by_what_is_in_it(tmp_path, microvolts):
    raw = make_raw(microvolts * 1e-6, NAMES, RATE)
    epochs = make_epochs(microvolts.reshape(3, 5, -1).swapaxes(0, 1) * 1e-6, NAMES, RATE)
    raw.save(tmp_path / "a_raw.fif")
    epochs.save(tmp_path / "a-epo.fif")
    mne.write_evokeds(tmp_path / "a-ave.fif", [epochs.average()])
    mne.compute_covariance(epochs).save(tmp_path / "a-cov.fif")
    check(open_recording(shutil.copy(tmp_path / "a_raw.fif", tmp_path / "raw-epo.fif")), microvolts)
    pieces = open_recording(shutil.copy(tmp_path / "a-epo.fif", tmp_path / "epochs_raw.fif"))
    np.testing.assert_allclose(pieces.read_pieces([0, 1, 2]) * 1e-6, epochs.get_data(), atol=1e-9)
    assert "holds averages over trials" in refusal(tmp_path / "a-ave.fif")
    assert "holds a covariance" in refusal(tmp_path / "a-cov.fif")
    assert "holds averages over trials" in refusal(shutil.copy(tmp_path / "a-ave.fif", tmp_path / "b_raw.fif"))


# Recordings in several files


@pytest.fixture
def brainvision(tmp_path, microvolts):
    pytest.importorskip("pybv")
    mne.export.export_raw(tmp_path / "a.vhdr", make_raw(microvolts * 1e-6, NAMES, RATE), verbose="ERROR")
    return tmp_path / "a.vhdr"


def edit(header, old, new):
    text = header.read_text(encoding="utf-8")
    assert re.search(old, text)
    header.write_text(re.sub(old, new, text), encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_brainvision_files_that_were_renamed(brainvision, microvolts):
    data, markers = brainvision.with_suffix(".eeg"), brainvision.with_suffix(".vmrk")
    header = brainvision.rename(brainvision.with_name("b.vhdr"))
    recording = open_recording(header)
    check(recording, microvolts)
    assert "note: the data are in a.eeg, as the header says" in recording.notes
    data.rename(data.with_name("b.eeg"))
    markers.rename(markers.with_name("b.vmrk"))
    assert re.search(r"names a.eeg as its data.*DataFile=, MarkerFile=", refusal(header))
    edit(header, r"(DataFile|MarkerFile)=a", r"\1=b")
    check(open_recording(header), microvolts)
    check(open_recording(data.with_name("b.eeg")), microvolts)


@pytest.mark.filterwarnings("ignore")
def test_a_copied_brainvision_header_names_another_recording(brainvision, microvolts):
    """MNE would read person a as person b."""
    other = brainvision.with_name("b.eeg")
    other.write_bytes(np.frombuffer(brainvision.with_suffix(".eeg").read_bytes(), "<f4")[::-1].tobytes())
    header = shutil.copy(brainvision, brainvision.with_name("b.vhdr"))
    assert re.search("names a.eeg as its data.*but b.eeg lies beside it.*write b.eeg into it", refusal(header))
    edit(header, "DataFile=a.eeg", "DataFile=b.eeg")
    check(open_recording(header), microvolts[::-1, ::-1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("old", "new"),
    [("IEEE_FLOAT_32", "INT_16"), ("MULTIPLEXED", "VECTORIZED"), ("NumberOfChannels=3", "NumberOfChannels=6")],
)
def test_a_brainvision_header_that_does_not_fit_its_data(brainvision, microvolts, old, new):
    edit(brainvision, "DataFormat=BINARY", f"DataFormat=BINARY\nDataPoints={SECONDS * RATE}")
    check(open_recording(brainvision), microvolts)
    right = brainvision.read_text(encoding="utf-8")
    if new == "VECTORIZED":
        brainvision.with_suffix(".eeg").write_bytes(brainvision.with_suffix(".eeg").read_bytes()[:-1200])
    edit(brainvision, old, new)
    assert re.search(r"a.eeg has \d+ bytes; \d channels.*DataPoints.*Correct the one", refusal(brainvision))
    brainvision.write_text(right, encoding="utf-8")
    check(open_recording(brainvision), microvolts[:, : -100 if new == "VECTORIZED" else None])


@pytest.mark.filterwarnings("ignore")
def test_brainvision_data_that_were_cut_off_are_read_and_noted(brainvision, microvolts):
    data = brainvision.with_suffix(".eeg")
    data.write_bytes(data.read_bytes()[:-13])
    recording = open_recording(brainvision)
    check(recording, microvolts[:, :-2])
    assert any("truncated, or one of these is wrong" in note for note in recording.notes)


@pytest.mark.filterwarnings("ignore")
def test_markers_after_the_end_of_brainvision_data(brainvision):
    markers = brainvision.with_suffix(".vmrk")
    markers.write_text(markers.read_text(encoding="utf-8") + "\nMk1=Stimulus,S 1,100,1,0\nMk2=Stimulus,S 2,9999,1,0\n")
    assert any("1 of 2 markers lie after the end" in note for note in open_recording(brainvision).notes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("interval", ["0", "1e12"])
def test_a_rate_of_brainvision_that_cannot_be(brainvision, interval):
    edit(brainvision, r"SamplingInterval=\S+", f"SamplingInterval={interval}")
    assert "can't" in refusal(brainvision)


@pytest.mark.filterwarnings("ignore")
def test_boundaries_of_eeglab_among_events_that_are_numbers(tmp_path, microvolts):
    """EEGLAB writes -99 for them; from the file and from MNE's Raw."""
    events = np.array([(200.0, 1.0), (300.5, -99.0)], dtype=[("latency", object), ("type", object)])
    chanlocs = np.array([(name,) for name in NAMES], dtype=[("labels", object)])
    samples = microvolts.shape[1]
    sizes = {"nbchan": len(NAMES), "pnts": samples, "trials": 1, "srate": float(RATE), "xmin": 0.0}
    fields = {"data": microvolts, "chanlocs": chanlocs, "event": events, "times": np.arange(samples) * 1000 / RATE}
    scipy.io.savemat(tmp_path / "a.set", sizes | fields | {"xmax": 1.0, "epoch": [], "ref": "common"}, appendmat=False)
    recording = open_recording(tmp_path / "a.set")
    assert recording.gaps == [pytest.approx((300 / RATE, 300 / RATE), abs=1 / RATE)]
    raw = mne.io.read_raw_eeglab(tmp_path / "a.set", preload=True, verbose="ERROR").filter(1, 30, verbose="ERROR")
    assert as_recording(raw).gaps == recording.gaps


@pytest.mark.filterwarnings("ignore")
def test_eeglab_data_in_a_file_of_their_own(tmp_path, microvolts):
    """The .set names the .fdt."""
    header, data = tmp_path / "a.set", tmp_path / "a.fdt"
    pytest.importorskip("eeglabio")
    mne.export.export_raw(header, make_raw(microvolts * 1e-6, NAMES, RATE), verbose="ERROR")
    fields = {name: value for name, value in scipy.io.loadmat(header).items() if not name.startswith("__")}
    scipy.io.savemat(header, fields | {"data": "a.fdt"}, appendmat=False)
    data.write_bytes(microvolts.T.astype("<f4").tobytes())
    check(open_recording(header), microvolts)
    check(open_recording(data), microvolts)
    data.write_bytes(data.read_bytes() * 2)
    assert any("the rest is not read" in note for note in open_recording(header).notes)
    data.write_bytes(data.read_bytes()[:1000])
    assert "truncated or corrupt" in refusal(header)
    other = header.rename(tmp_path / "b.set")
    (tmp_path / "b.fdt").write_bytes(microvolts.T[::-1].astype("<f4").tobytes())
    assert re.search("names a.fdt as its data .*but b.fdt lies beside it", refusal(other))
    data.unlink()
    check(open_recording(other), microvolts[:, ::-1])


@pytest.mark.filterwarnings("ignore")
def test_epochs_of_eeglab_and_the_way_that_the_error_names(tmp_path, microvolts):
    pytest.importorskip("eeglabio")
    epochs = make_epochs(microvolts.reshape(3, 5, -1).swapaxes(0, 1) * 1e-6, NAMES, RATE)
    mne.export.export_epochs(tmp_path / "a.set", epochs, verbose="ERROR")
    text = refusal(tmp_path / "a.set")
    assert "mne.read_epochs_eeglab" in text and "Epochs" in text
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    batch = extractor(mne.read_epochs_eeglab(tmp_path / "a.set", verbose="ERROR"))
    np.testing.assert_allclose(batch["input_values"], extractor(epochs)["input_values"], atol=1e-4)


def test_one_of_several_files_alone(tmp_path):
    for name, header in (("a.eeg", ".vhdr"), ("a.vmrk", ".vhdr"), ("a.fdt", ".set")):
        (tmp_path / name).write_bytes(b"numbers")
        assert f"without its header: open the {header} file" in refusal(tmp_path / name)


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_belongs_to_a_recording_is_missing(tmp_path):
    (tmp_path / "x.ds").mkdir()
    assert "x.res4" in refusal(tmp_path / "x.ds")
    (tmp_path / "x.ds" / "x.meg4").touch()
    assert "x.res4" in refusal(tmp_path / "x.ds" / "x.meg4")
    (tmp_path / "a.lay").write_text("[FileInfo]\nFile=a.dat\nFileType=Interleaved\n")
    assert "is not beside it" in refusal(tmp_path / "a.lay")
