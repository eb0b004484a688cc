"""The page: what a visitor sees, in the order of the page, and what each button does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import parts
import visits
from analysis import Look, hide_and_refill
from guard import Guard
from simulated import write_examples
from starlette.middleware import Middleware
from visits import MOST_MEGABYTES, Refused


HERE = Path(__file__).parent
# Visitors whose recordings are read at the same time, one on each core, and those who may wait.
AT_ONCE, MOST_WAITING = 2, 60
# What a visitor sees is forgotten after this time, in seconds, or with the tab.
FORGET_AFTER = 1800
UNITS = {"as the file says": None, "microvolts": "uV", "millivolts": "mV", "volts": "V"}
FIRST_SHARE = 40  # of the samples, hidden at first, in percent
# What is recomputed when a slider moves.
DRAWING = {"concurrency_id": "drawing", "concurrency_limit": AT_ONCE, "trigger_mode": "always_last"}
INTRODUCTION = """
# See an EEG recording as NeurIPT does

Drop a recording, or take an example: which channels the model sees and which are bad, what two small classifiers say,
how the windows resemble each other, and how well the model fills what it can't see.

**Research software, not a medical device: nothing here says anything about anybody's health.**
**Nothing is kept:** your file is read and deleted at once, and what you see goes when you close the page.
"""


def build_page(examples: dict[str, Path]) -> gr.Blocks:
    with gr.Blocks(title="NeurIPT: see an EEG recording", analytics_enabled=False, delete_cache=(60, 600)) as page:
        taken = gr.State(None, time_to_live=FORGET_AFTER, delete_callback=visits.forget)
        look = gr.State(None, time_to_live=FORGET_AFTER)
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                gr.Markdown(
                    f"## Your recording\n\nEDF, BDF, FIF, SET with its FDT, or CSV; up to {MOST_MEGABYTES} MB."
                )
                upload = gr.File(
                    label="Recording", file_count="multiple", height=150, elem_id="upload",
                    file_types=[*visits.ENDINGS, *visits.COMPANIONS.values()],
                )  # fmt: skip
                with gr.Row(visible=False) as for_tables:
                    rate = gr.Number(label="Rate in hertz", info="if the table has no time column", minimum=0)
                    unit = gr.Dropdown(list(UNITS), value="as the file says", label="Unit of the numbers")
                start = gr.Button("Read the recording", variant="primary", visible=False, elem_id="read")
            with gr.Column():
                gr.Markdown("## Or an example\n\nSimulated: nobody's EEG. It has no eyes to open and does no sums.")
                buttons = [gr.Button(about, elem_id=f"example_{number}") for number, about in enumerate(examples)]
        status = gr.HTML("<p>Nothing was read yet.</p>", elem_id="status", min_height=90)
        with gr.Column(visible=False, elem_id="results") as results:
            with gr.Row():
                with gr.Column():
                    gr.Markdown("## Channels")
                    channels = gr.HTML()
                with gr.Column():
                    gr.Markdown("## On the head")
                    head = gr.HTML()
            with gr.Row():
                with gr.Column():
                    gr.Markdown("## Signal")
                    window = gr.Slider(1, 2, value=1, step=1, label="From window", elem_id="window")
                    signal = gr.HTML()
                with gr.Column():
                    gr.Markdown("## Hidden samples, filled")
                    share = gr.Slider(10, 80, value=FIRST_SHARE, step=5, label="Hidden, in percent", elem_id="share")
                    filled = gr.HTML()
            with gr.Row():
                with gr.Column():
                    gr.Markdown("## Classes over time")
                    classes = gr.HTML()
                with gr.Column():
                    gr.Markdown("## Map of the windows")
                    embedding = gr.HTML()
            gr.Markdown("## Take it with you\n\nOnsets, probabilities and embeddings. Embeddings are personal data.")
            table = gr.HTML()

        shown = [status, results, look, channels, head, window, share, signal, filled, classes, embedding, table]
        reading = {"concurrency_id": "reading", "concurrency_limit": AT_ONCE, "show_progress_on": status}
        to_status = "() => document.getElementById('status').scrollIntoView({behavior: 'smooth', block: 'start'})"
        arrival = [upload, taken, status, for_tables, start]
        upload.upload(take, [upload, taken], arrival, preprocess=False, queue=False, api_name="take")
        start.click(read_upload, [taken, rate, unit], [*shown, taken, start], api_name="read", **reading)
        start.click(None, js=to_status)
        for button, (about, path) in zip(buttons, examples.items(), strict=True):
            button.click(example_reader(about, path), None, shown, api_name=button.elem_id, **reading)
            button.click(None, js=to_status)
        window.change(redraw_signal, [look, window], signal, show_progress="minimal", **DRAWING)
        gr.on([window.change, share.change], refill, [look, window, share], filled, show_progress="minimal", **DRAWING)
    return page.queue(max_size=MOST_WAITING, default_concurrency_limit=AT_ONCE)


def take(files: list[dict[str, Any]], before: tuple[Path, str] | None) -> tuple:
    """An upload has arrived."""
    visits.forget(before)
    try:
        path, name = visits.take(files or [])
    except Refused as reason:
        return None, None, parts.problem(str(reason)), gr.Row(visible=False), gr.Button(visible=False)
    is_table = path.suffix == ".csv"
    status = parts.arrived(name, path.stat().st_size, is_table)
    return None, (path, name), status, gr.Row(visible=is_table), gr.Button(visible=True)


def read_upload(taken: tuple[Path, str] | None, rate: float | None, unit: str) -> list:
    """What is shown of the upload; it is gone, and so is the button."""
    try:
        if taken is None or not taken[0].exists():
            raise Refused("The file is no longer here. Choose it again.")
        path, name = taken
        given = {"sampling_rate": rate or None, "unit": UNITS[unit]} if path.suffix == ".csv" else {}
        answer = show(visits.read(path, name, **given), name)
    except Refused as reason:
        answer = refusal(reason)
    finally:
        visits.forget(taken)
    return [*answer, None, gr.Button(visible=False)]


def example_reader(about: str, path: Path) -> Callable[[], list]:
    def read_example() -> list:
        try:
            return show(visits.read(path, about), about)
        except Refused as reason:
            return refusal(reason)

    return read_example


def refusal(reason: Refused) -> list:
    """No results, and why."""
    return [parts.problem(str(reason)), gr.Column(visible=False), None, *[gr.skip()] * 9]


def show(look: Look, name: str) -> list:
    """All that is shown of a recording, from its first window on."""
    return [
        parts.summary(look, name),
        gr.Column(visible=True),
        look,
        parts.channel_table(look),
        parts.head(look),
        gr.Slider(1, max(2, len(look.onsets)), value=1, step=1),
        FIRST_SHARE,
        parts.signal(look, 0),
        refill(look, 1, FIRST_SHARE),
        parts.classes(look),
        parts.embedding_map(look),
        parts.download(look),
    ]


def redraw_signal(look: Look | None, window: int) -> Any:
    return gr.skip() if look is None else parts.signal(look, number_of(look, window))


def refill(look: Look | None, window: int, percent: float) -> Any:
    if look is None:
        return gr.skip()
    number, share = number_of(look, window), percent / 100
    return parts.refilled(look, hide_and_refill(look, number, share), number, share)


def number_of(look: Look, window: int) -> int:
    """A window's number from 0; the slider has two places even where there is one window."""
    return min(window, len(look.onsets)) - 1


def launch() -> None:
    visits.start()
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    page = build_page(write_examples(visits.VISITS / "examples"))
    page.launch(
        theme=gr.themes.Default(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "monospace"]),
        css_paths=HERE / "style.css",
        js="() => document.getElementById('status').setAttribute('role', 'status')",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        max_file_size=f"{MOST_MEGABYTES}mb",
        app_kwargs={"middleware": [Middleware(Guard, most_bytes=(MOST_MEGABYTES + 1) * 2**20)]},
    )
