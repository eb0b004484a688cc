"""A `Look` as HTML. What comes from a file or its name is escaped here; pictures are inside the page, not files."""

import base64
import io
from html import escape

from analysis import MOST_WINDOWS, Look, Refilled, caution_of, name_of
from figures import MOST_LANES, draw_classes, draw_head, draw_map, draw_refilled, draw_signal
from matplotlib.figure import Figure


DOTS_PER_INCH = 150


def picture(figure: Figure, alt: str, caption: str) -> str:
    """A figure inside the page, with its description for those who do not see it, and a caption for all."""
    file = io.BytesIO()
    figure.savefig(file, dpi=DOTS_PER_INCH)
    source = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{source}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def summary(look: Look, name: str) -> str:
    """What was found, in a few lines."""
    text = f"<strong>{escape(name)}</strong>: {escape(look.report.summary)}."
    if len(look.onsets) < look.possible:
        text += (
            f" The first {len(look.onsets)} of its {look.possible} windows are used: a visit has {MOST_WINDOWS}, or "
            "fewer where there are many channels."
        )
    return f"<p>{text}</p>"


def arrived(name: str, size: int, is_table: bool) -> str:
    """What to do with a file that has arrived."""
    ask = " If the table does not say its rate and unit, give them." if is_table else ""
    return (
        f"<p><strong>{escape(name)}</strong>, {size / 2**20:.1f} MB, has arrived.{ask} Press “Read the recording”.</p>"
    )


def problem(text: str) -> str:
    return f'<p class="problem"><strong>Nothing to show.</strong> {escape(text)}</p>'


def channel_table(look: Look) -> str:
    """The channel report as a table, and everything that was done in a list."""
    report, rows = look.report, []
    for row in sorted(report.channels, key=lambda row: not row.masked):
        sources = " ".join(map(str, row.sources)).removeprefix("+")
        state = f'<td class="bad">masked: {escape(row.masked)}</td>' if row.masked else "<td>seen</td>"
        rows.append(f'<tr><th scope="row">{escape(row.name)}</th><td>{escape(sources)}</td>{state}</tr>')
    for name, reason in report.dropped.items():
        reason = "; ".join(filter(None, [reason, report.faults.get(name)]))
        rows.append(f'<tr><td></td><td>{escape(name)}</td><td class="out">left out: {escape(reason)}</td></tr>')
    steps = "".join(f"<li>{escape(step)}</li>" for step in report.steps)
    return (
        '<div class="table" tabindex="0" role="region" aria-label="Channel report"><table><caption>'
        f"{len(report.channels)} channels for the model</caption><thead><tr>"
        '<th scope="col">Channel</th><th scope="col">In the file</th><th scope="col">For the model</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"<details><summary>Every step from the file to the model</summary><ul>{steps}</ul></details>"
    )


def head(look: Look) -> str:
    bad = [row.name for row in look.report.channels if row.masked]
    seen = [row.name for row in look.report.channels if not row.masked]
    alt = f"The head from above. Seen by the model: {', '.join(seen)}. Masked as bad: {', '.join(bad) or 'none'}."
    return picture(draw_head(look), alt, "The head from above, nose up.")


def signal(look: Look, window: int) -> str:
    bad = [row.name for row in look.report.channels if row.masked]
    start = look.onsets[window]
    alt = f"The signal of {len(look.report.channels)} channels from {start:g} s on."
    caption = "Shades are windows. Black: the signal as the model sees it, 0.1 to 30 Hz."
    if bad:
        caption += " Red: masked channels, unfiltered and scaled to their lanes; the model sees nothing of them."
        alt += f" Masked: {', '.join(bad)}."
    if len(look.report.channels) > MOST_LANES:
        caption += f" The first {MOST_LANES} of {len(look.report.channels)} channels."
    return picture(draw_signal(look, window), alt, caption)


def classes(look: Look) -> str:
    """The probabilities over time, and beside them how little they say."""
    answers = {name: answer for name, answer in look.answers.items() if not isinstance(answer, str)}
    shown = ""
    if answers:
        means = [
            f"{answer.columns[1].replace('_', ' ')} with a mean probability of {answer.iloc[:, 1].mean():.2f}"
            for answer in answers.values()
        ]
        alt = f"Probabilities over {len(look.onsets)} windows. {'. '.join(means)}."
        shown = picture(draw_classes(look), alt, "A point for each window. Near the middle the model does not know.")
    notes = []
    for name, answer in look.answers.items():
        refused = f"No answer: {answer} " if isinstance(answer, str) else ""
        notes.append(f"<li><strong>{escape(name_of(name))}.</strong> {escape(refused + caution_of(name))}</li>")
    return f'{shown}<ul class="cautions">{"".join(notes)}</ul>'


def embedding_map(look: Look) -> str:
    if len(look.onsets) < 3:
        return "<p>A map needs three windows or more.</p>"
    size = look.embeddings.shape[1]
    return picture(
        draw_map(look),
        f"A map of {len(look.onsets)} windows, coloured by time.",
        f"A point is a window. Windows with similar embeddings ({size} numbers) are close.",
    )


def refilled(look: Look, hidden: Refilled, window: int, share: float) -> str:
    errors = ", ".join(f"{name} {error:.2f}" for name, error in hidden.errors.items())
    text = f"Squared error where samples are hidden, over their variance (smaller is better): {errors}."
    alt = f"{share:.0%} of the samples of a window are hidden and filled by the model. {text}"
    return picture(draw_refilled(look, hidden, window), alt, text)


def download(look: Look) -> str:
    """The table as a link that holds it: no file is made. It has numbers and the names of our classes alone."""
    data = base64.b64encode(look.table.to_csv(index=False, float_format="%.6g").encode()).decode()
    size = f"{len(look.onsets)} rows, {look.table.shape[1]} columns"
    link = f'<a class="download" download="neuript.csv" href="data:text/csv;base64,{data}">Download the table</a>'
    return f"<p>{link} ({size})</p>"
