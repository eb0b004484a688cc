"""
The Space: what visitors see, what hostile files can do, and that nothing of a visitor is kept or seen by another.
`make test-space` runs it, in an environment with Gradio and Playwright; the browser is Debian's chromium.
"""

import base64
import gzip
import io
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy.io import savemat


pytest.importorskip("gradio")
import httpx  # noqa: E402  (comes with Gradio)


SPACE = ROOT / "space"
ZOO = ROOT.parent / "shared" / "data" / "edge_cases" / "files"
PORT = 7899
PAGE = f"http://127.0.0.1:{PORT}/"
UPLOAD = f"{PAGE}gradio_api/upload"
CHROMIUM = shutil.which("chromium")
EXAMPLES = ("One minute, 19 electrodes", "Two minutes with faults", "A headband, 4 electrodes")
# What no visitor may see: paths, and the words of a traceback.
INSIDE = re.compile(r"/tmp|/work|/home|/usr|site-packages|neuript-space|Traceback|\.py\b|File \"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the server keeps its files while it runs."""
    return tmp_path_factory.mktemp("space")


@pytest.fixture(scope="module")
def server(folder):
    environment = os.environ | {"GRADIO_SERVER_PORT": str(PORT), "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, SPACE / "app.py"], env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log.txt").read_text()
            try:
                httpx.get(PAGE, timeout=60)
                break
            except httpx.TransportError:
                time.sleep(0.5)
        yield folder
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert not list(folder.glob("neuript-space-*")), "the server has left its folder behind"


@pytest.fixture(scope="module")
def dependencies(server):
    found = httpx.get(f"{PAGE}config").json()["dependencies"]
    return {dependency["api_name"]: dependency for dependency in found if dependency["api_name"]}


class Visitor:
    """One session, as the page's own code talks to the server; `ranks` are places in the queue that it was told."""

    def __init__(self, dependencies: dict, name: str):
        self.dependencies, self.session, self.ranks = dependencies, f"visitor-{name}", []
        self.http = httpx.Client(base_url=PAGE, timeout=180)

    def upload(self, *files: tuple[str, bytes]) -> list[dict]:
        answer = self.http.post("gradio_api/upload", files=[("files", file) for file in files])
        answer.raise_for_status()
        return [
            {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
            for path, (name, _) in zip(answer.json(), files, strict=True)
        ]

    def call(self, api_name: str, *data) -> list:
        """Outputs of a button; an error of Gradio is one of the test."""
        dependency = self.dependencies[api_name]
        body = {"data": list(data), "fn_index": dependency["id"], "session_hash": self.session}
        if dependency["queue"] is False:
            answer = self.http.post(f"gradio_api/run/{api_name}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]
        self.http.post("gradio_api/queue/join", json=body).raise_for_status()
        with self.http.stream("GET", "gradio_api/queue/data", params={"session_hash": self.session}) as events:
            for line in events.iter_lines():
                event = json.loads(line.removeprefix("data: ")) if line else {}
                if event.get("msg") == "estimation":
                    self.ranks.append(event["rank"])
                if event.get("msg") == "process_completed":
                    assert event["success"], event
                    return event["output"]["data"]
        raise AssertionError("the queue ended without an answer")

    def take(self, *files: dict) -> str:
        """Tells the page of an upload; what its status says."""
        return text_of(self.call("take", list(files), None)[2])

    def read(self, *files: tuple[str, bytes], rate=None, unit="as the file says") -> tuple[str, list]:
        """Uploads and reads; the status, and all outputs if it came so far."""
        status = self.take(*self.upload(*files))
        if "has arrived" not in status:
            return status, []
        outputs = self.call("read", None, rate, unit)
        return text_of(outputs[0]), outputs


@pytest.fixture
def visitor(dependencies, request):
    return Visitor(dependencies, request.node.name)


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html))


def table_of(outputs: list) -> pd.DataFrame:
    """The table in the link to download it."""
    return pd.read_csv(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", outputs[11])[1])))


def left_over(server: Path) -> list[Path]:
    """Files that the server holds, but for its examples."""
    return [path for path in server.glob("neuript-space-*/**/*") if path.is_file() and "examples" not in path.parts]


def csv(seconds: float = 10, rate: float = 100, names=("Fz", "Cz", "Pz", "O1"), seed: int = 0) -> bytes:
    values = np.random.default_rng(seed).normal(0, 10, (round(seconds * rate), len(names)))
    return pd.DataFrame(values, columns=list(names)).to_csv(index=False, float_format="%.3f").encode()


# What a visitor sees


def test_an_example_shows_everything(visitor):
    outputs = visitor.call("example_1")
    assert text_of(outputs[0]) == (
        "Two minutes with faults: the model sees 19 of 20 channels (2 of them masked as bad), 28 windows of 4 s; "
        "recorded at 500 Hz, reference unknown."
    )
    channels = text_of(outputs[3])
    assert "T8EEG T4-REFmasked: EEG T4-REF flat" in channels and "ECGleft out" in channels
    assert "BAD_movement" in channels  # among the steps
    for place, words in {
        4: "Masked as bad: T8, O2",
        7: "Masked: T8, O2",
        8: "40% of the samples",
        10: "28 windows",
    }.items():
        assert words in re.search(r'<img [^>]*alt="([^"]+)"', outputs[place])[1]
    results = json.loads((ROOT / "hub" / "neuript-tiny-eyes" / "results.json").read_text())
    accuracy = f"Balanced accuracy {results['model']['balanced_accuracy']:.2f} on epilepsy_gb"
    assert accuracy in outputs[9] and "Trained on one set" in outputs[9]
    table = table_of(outputs)
    assert len(table) == 28 and table.shape[1] == 2 + 4 + 230
    assert not ((table.onset < 51) & (table.onset + 4 > 40)).any()  # time marked as bad


def test_the_numbers_are_those_of_the_pipelines(visitor, tmp_path):
    from transformers import pipeline

    (tmp_path / "file.csv").write_bytes(csv(20))
    table = table_of(visitor.read(("file.csv", csv(20)), rate=100, unit="microvolts")[1])
    given = {"sampling_rate": 100, "unit": "uV"}
    rows = pipeline("eeg-embedding", model=str(ROOT / "hub" / "neuript-tiny"))(str(tmp_path / "file.csv"), **given)
    np.testing.assert_allclose(
        table.filter(like="embedding"), [row["embedding"] for row in rows], rtol=1e-4, atol=1e-5
    )
    classify = pipeline("eeg-classification", model=str(ROOT / "hub" / "neuript-tiny-arithmetic"))
    scores = [row["scores"]["rest"] for row in classify(str(tmp_path / "file.csv"), **given)]
    np.testing.assert_allclose(table["rest"], scores, rtol=1e-4)


def test_sliders_redraw(visitor):
    first = visitor.call("example_2")
    for window, share in ((3, 60), (16, 80)):
        signal = visitor.call("redraw_signal", None, window)[0]
        filled = visitor.call("refill", None, window, share)[0]
        assert signal.startswith("<figure>") and filled.startswith("<figure>") and filled != first[8]
    assert "80% of the samples" in filled


def test_without_a_recording_sliders_do_nothing(visitor):
    assert visitor.call("redraw_signal", None, 2) != [None]


def test_long_recordings_are_cut_and_say_so(visitor):
    status, outputs = visitor.read(("long.csv", csv(330, 64, ["C3", "C4"])), rate=64, unit="microvolts")
    assert "The first 75 of its 82 windows are used" in status
    assert len(table_of(outputs)) == 75


def test_a_head_that_reads_none_of_the_channels_says_so(visitor):
    """The classifier of open and closed eyes was trained without electrodes over the parietal lobe."""
    outputs = visitor.read(("two.csv", csv(9, 100, ["C3", "Cz", "P4"])), rate=100, unit="microvolts")[1]
    assert "No answer: The model reads none of the good channels" in outputs[9]
    assert list(table_of(outputs).columns[:4]) == ["onset", "duration", "arithmetic", "rest"]


def test_set_with_fdt(visitor, tmp_path):
    values = np.random.default_rng(0).normal(0, 10, (3, 1200)).astype(np.float32)
    values.T.tofile(tmp_path / "a b.fdt")
    places = np.array([("Fz",), ("Cz",), ("Pz",)], dtype=[("labels", object)])
    eeg = {"nbchan": 3, "srate": 100.0, "trials": 1, "pnts": 1200, "data": "a b.fdt", "datfile": "a b.fdt"}
    savemat(tmp_path / "a.set", {"EEG": eeg | {"chanlocs": places, "event": [], "xmin": 0.0, "xmax": 11.99}})
    files = [("a.set", (tmp_path / "a.set").read_bytes()), ("a b.fdt", (tmp_path / "a b.fdt").read_bytes())]
    assert "the model sees 3 of 3 channels" in visitor.read(*files)[0]
    assert "is not beside it" in visitor.read(files[0])[0]


@pytest.mark.shared_data
def test_zoo(visitor, server):
    """Each awkward file is shown or refused in words, without an address or a trace of the server."""
    files = [path for path in sorted(ZOO.glob("*")) if path.suffix in (".edf", ".bdf", ".fif", ".set", ".csv")]
    assert len(files) > 30
    refused = {}
    for path in files:
        status, outputs = visitor.read((path.name, path.read_bytes()))
        assert path.name in status
        assert not INSIDE.search(status), status
        if "Nothing to show" in status:
            refused[path.name] = status
        else:
            assert "the model sees" in status and not INSIDE.search(text_of("".join(map(str, outputs[3:11]))))
    expected = {line["file"]: line["expect"] for line in map(json.loads, (ZOO.parent / "expected.jsonl").open())}
    assert [path.name for path in files if expected.get(path.name) == "error" and path.name not in refused] == []
    assert left_over(server) == []


# Hostile files


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.edf", bytes(50 * 2**20))
    return file.getvalue()


def set_bomb() -> bytes:
    """A MATLAB file whose array takes 40 GB when it is unpacked."""
    shape = struct.pack("<IIIIIIII", 6, 8, 6, 0, 5, 8, 50_000, 100_000)  # class double, [50000, 100000]
    body = shape + struct.pack("<HH4s", 1, 4, b"EEG\0") + struct.pack("<II", 9, 4 * 10**9) + bytes(10**7)
    packed = zlib.compress(struct.pack("<II", 14, len(body)) + body)
    return (
        b"MATLAB 5.0 MAT-file".ljust(124)
        + struct.pack("<H2s", 0x0100, b"IM")
        + struct.pack("<II", 15, len(packed))
        + packed
    )


def edf_of_many_signals() -> bytes:
    """A header that promises 9999 signals of 99999999 samples."""
    header = b"0".ljust(8) + b"X".ljust(80) * 2 + b"01.01.2001.01.01" + b"2560256".ljust(8) + b" " * 44
    header += b"99999999" + b"1".ljust(8) + b"9999"
    return header + b"1".ljust(8) * 320 * 1000


def pickled() -> bytes:
    """An array of objects, which runs a program where it is unpickled."""
    file = io.BytesIO()
    np.save(file, np.array([print], dtype=object), allow_pickle=True)
    return file.getvalue()


HOSTILE = {
    "zip bomb": ("bomb.edf", zip_bomb(), "looks like a ZIP archive"),
    "gzip bomb": ("bomb.fif", gzip.compress(bytes(50 * 2**20)), "looks like a file packed with gzip"),
    "SET bomb": ("bomb.set", set_bomb(), "bomb.set: "),
    "endless EDF": ("endless.edf", edf_of_many_signals(), "endless.edf: "),
    "nothing": ("nothing.edf", b"", "The file is empty: 0 bytes."),
    "noise": ("noise.bdf", np.random.default_rng(0).bytes(10**6), "noise.bdf: "),
    "EDF named FIF": ("a.fif", b"0".ljust(184) + b"256".ljust(72), "Rename the file to a.edf"),
    "program": ("a.exe", b"MZ" + bytes(100), "Expected one recording as EDF, BDF, FIF, SET, CSV"),
    "no ending": ("recording", b"0" * 100, "Expected one recording"),
    "pickle": ("objects.npy", pickled(), "Expected one recording"),
    "pickle named CSV": ("objects.csv", pickle.dumps(print), "objects.csv: "),
    "page": ("page.csv", b"<html><script>alert(1)</script></html>", "looks like HTML"),
    "folder above": ("../../../etc/cron.d/evil.edf", b"x" * 300, "evil.edf: "),
    "HTML in the name": ("<img src=x onerror=alert(1)>.edf", b"x" * 300, "Nothing to show"),
    "endless name": ("x" * 180 + ".edf", b"x" * 300, "…"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_words(case, visitor, server):
    name, content, words = HOSTILE[case]
    files = visitor.upload((name, content))
    assert all(Path(file["path"]).is_relative_to(server) for file in files)
    status = visitor.take(*files)
    html = status
    if "has arrived" in status:
        html = visitor.call("read", None, None, "as the file says")[0]
        status = text_of(html)
    assert words in status and "Nothing to show" in status
    assert not INSIDE.search(status) and "<img" not in html and len(status) < 1000
    assert left_over(server) == []


def test_formulas_and_markup_in_a_table_stay_text(visitor):
    names = ["Fz", "Cz", '=HYPERLINK("http://x")', "<script>alert(1)</script>"]
    status, outputs = visitor.read(("formulas.csv", csv(9, 100, names)), rate=100, unit="microvolts")
    assert "the model sees 2 of 4 channels" in status
    page = "".join(str(output) for output in outputs[:11])
    assert "&lt;script&gt;" in page and "<script" not in page
    assert not any(
        str(cell).startswith(("=", "+", "@")) for cell in [*table_of(outputs).columns, *table_of(outputs).iloc[0]]
    )


def test_large_uploads_are_refused_before_they_are_stored(server):
    sent = []

    def body():
        while len(sent) < 500:
            sent.append(1)
            yield bytes(2**20)

    length = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = httpx.post(UPLOAD, content=body(), headers=length | {"Content-Length": str(500 * 2**20)})
        assert answer.status_code == 413
    except httpx.WriteError:  # the server has hung up
        pass
    assert len(sent) < 100
    assert httpx.post(UPLOAD, content=iter([b"x"] * 3), headers=length).status_code == 413
    assert left_over(server) == []


def test_files_of_the_server_are_out_of_reach(visitor, server):
    (example,) = server.glob("neuript-space-*/visits/examples/example0_raw.fif")
    for path in ("/etc/passwd", str(example), str(SPACE / "app.py")):
        assert httpx.get(f"{PAGE}gradio_api/file={path}").status_code in (403, 404)
        answer = visitor.http.post(
            "gradio_api/run/take",
            json={
                "data": [[{"path": path, "orig_name": "a.edf", "meta": {"_type": "gradio.FileData"}}], None],
                "fn_index": visitor.dependencies["take"]["id"],
                "session_hash": visitor.session,
            },
        )
        assert answer.status_code != 200 and path not in answer.text
    assert example.exists()


# Visitors beside each other


def test_an_example_leaves_an_upload_alone(visitor, server):
    assert "has arrived" in visitor.take(*visitor.upload(("mine.csv", csv(9))))
    assert "A headband" in text_of(visitor.call("example_2")[0])
    assert "mine.csv: the model sees" in text_of(visitor.call("read", None, 100, "microvolts")[0])
    assert left_over(server) == []


def test_equal_files_of_two_visitors_are_two(dependencies, server):
    first, second = Visitor(dependencies, "first"), Visitor(dependencies, "second")
    file = ("same.csv", csv(10))
    uploads = first.upload(file), second.upload(file)
    assert uploads[0][0]["path"] != uploads[1][0]["path"]
    assert "has arrived" in first.take(*uploads[0]) and "has arrived" in second.take(*uploads[1])
    for one in (first, second):
        assert "4 of 4 channels" in text_of(one.call("read", None, 100, "microvolts")[0])
    assert left_over(server) == []
    assert "no longer here" in text_of(first.call("read", None, 100, "microvolts")[0])


def test_twenty_visitors_at_once(dependencies, server):
    """Each gets the own recording back, is told the place in the queue, and nothing is left."""
    found, expected = {}, {}

    def visit(number: int):
        visitor = Visitor(dependencies, f"of-twenty-{number}")
        seconds, names = 8 + 4 * (number % 5), ["Fz", "Cz", "Pz", "O1", "O2"][: 1 + number % 4]
        status, outputs = visitor.read(
            (f"file{number}.csv", csv(seconds, 100, names, seed=number)), rate=100, unit="microvolts"
        )
        refilled = visitor.call("refill", None, 2, 60)[0]
        found[number] = (
            status,
            len(table_of(outputs)),
            table_of(outputs)["embedding_0"][0],
            refilled[:8],
            visitor.ranks,
        )
        expected[number] = (f"file{number}.csv: the model sees {len(names)} of {len(names)} channels", seconds // 4)

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(20)]
    for one in visitors:
        one.start()
    for one in visitors:
        one.join()
    assert sorted(found) == list(range(20))
    for number, (status, windows, _, refilled, _) in found.items():
        assert status.startswith(expected[number][0]) and windows == expected[number][1] and refilled == "<figure>"
    assert len({first for _, _, first, _, _ in found.values()}) == 20
    assert max(rank for *_, ranks in found.values() for rank in ranks) >= 10
    assert left_over(server) == []


# In a browser


@pytest.fixture(scope="module")
def browser(server):
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(browser, request):
    """The page, which calls nobody else and has no error in its console."""
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.calls, page.errors, page.dialogs = [], [], []
    page.on("request", lambda request: page.calls.append(request.url))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(PAGE)
    page.get_by_role("button", name=EXAMPLES[0]).wait_for()
    yield page
    assert [url for url in page.calls if not url.startswith((PAGE, "data:", "blob:"))] == []
    assert page.errors == [] and page.dialogs == []
    context.close()


def assert_readable(page):
    """No sideways scrolling, a description for each picture, one heading of the first order, named fields."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("h1").count() == 1 and page.locator("html[lang]").count() == 1
    pictures = page.locator("img:visible").all()
    assert all(len(picture.get_attribute("alt") or "") > 20 for picture in pictures)
    for field in page.locator("input:visible, button:visible").all():
        named = field.evaluate(
            "e => e.getAttribute('aria-label') || e.innerText || [...e.labels || []].map(l => l.innerText).join('')"
        )
        assert named.strip(), field.evaluate("e => e.outerHTML")
    return len(pictures)


def tab_to(page, selector: str):
    """Presses Tab until an element that fits has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.closest(s) !== null", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_keyboard_alone(page, tmp_path):
    """An example, a slider, the table; then a file of one's own, that is refused."""
    assert "not a medical device" in page.inner_text("body") and "Nothing is kept" in page.inner_text("body")
    assert assert_readable(page) == 0
    tab_to(page, "#example_2")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    page.locator("a.download").wait_for()
    assert page.get_attribute("#status", "role") == "status"
    assert "the model sees 4 of 4 channels" in page.inner_text("#status")
    assert assert_readable(page) == 5
    before = page.get_attribute("figure img[alt*='are hidden']", "src")
    tab_to(page, "#share input[type=range]")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("b => document.querySelector(\"figure img[alt*='are hidden']\").src !== b", arg=before)
    assert "45% of the samples" in page.get_attribute("figure img[alt*='are hidden']", "alt")
    tab_to(page, "a.download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert len(pd.read_csv(download.value.path())) == 16

    (tmp_path / "sleep.edf").write_bytes(zip_bomb())
    page.keyboard.press("Control+Home")
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "#upload")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(tmp_path / "sleep.edf")
    page.locator("#status", has_text="has arrived").wait_for()
    tab_to(page, "#read")
    page.keyboard.press("Enter")
    page.locator("#status", has_text="looks like a ZIP archive").wait_for()
    assert page.locator("a.download:visible").count() == 0
    assert_readable(page)


def test_a_table_asks_for_rate_and_unit(page, tmp_path):
    """And a name with markup is shown as it is written."""
    file = tmp_path / "<b onmouseover=alert(1)>.csv"
    file.write_bytes(csv(9, 100, ["Fz", "Cz", "<img src=x onerror=alert(1)>"]))
    page.set_input_files("#upload input[type=file]", file)
    page.get_by_label("Rate in hertz").fill("100")
    page.get_by_label("Unit of the numbers").click()
    page.get_by_role("option", name="microvolts").click()
    page.get_by_role("button", name="Read the recording").click()
    page.locator("a.download").wait_for()
    assert "the model sees 2 of 3 channels" in page.inner_text("#status")
    assert "<img src=x" in page.inner_text("#results table")
    assert_readable(page)
