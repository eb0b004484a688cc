"""Pictures of results: none is left behind, and all that is written in one can be read."""

import figures
import matplotlib.pyplot as plt
import pytest
from conftest import ROOT
from matplotlib.text import Text


PICTURES = figures.pictures()


def test_every_picture_of_results_is_drawn_by_one_command():
    drawn = {path for path in PICTURES if path.parent == figures.RESULTS}
    assert drawn == set(figures.RESULTS.glob("*.png"))
    assert all(path.is_file() for path in PICTURES)
    texts = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert all(f"({path.name})" in texts for path in PICTURES if path.parent == ROOT / "docs")


def texts_in(figure: plt.Figure) -> list[Text]:
    """Those that are to be seen: matplotlib also keeps labels of ticks outside the axes."""
    unseen = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    return [
        text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible() and text not in unseen
    ]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_texts_are_inside_and_apart(path):
    with plt.rc_context(figures.STYLE):
        figure = PICTURES[path]()
        figure.canvas.draw()
        frame = figure.bbox.padded(1)
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts_in(figure)]
        plt.close(figure)
    for text, box in boxes:
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1, text
    for number, (one, box) in enumerate(boxes):
        for other, another in boxes[:number]:
            assert not box.padded(-1).overlaps(another.padded(-1)), (one, other)
