"""README and docs: their code runs, their links lead somewhere, their tables are those of the result files."""

import re
from pathlib import Path

import pytest
import write_tables
from transformers.utils import logging


ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "research" / "LOG.md"])


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("README.md", ["numbers each", "band-pass: 0.1 to 30 Hz", "unseen people", "band power", "'label': "]),
        ("docs/quickstart.md", ["band-pass: 0.1 to 30 Hz", "torch.Size([2, 230])", "eyes_"]),
        ("docs/your-recording.md", ["Cz-C4", "lobe_mask"]),
        ("docs/batch-contract.md", ["torch.Size([2, 3360])", "(2, 3, 16, 96)"]),
        ("docs/fine-tuning.md", ["'left_hand': "]),
        ("docs/checkpoints.md", ["eegmat"]),
        ("docs/ecosystem.md", []),
        ("docs/streaming.md", ["eyes_"]),
        ("docs/scikit-learn.md", ["(7, 401)", "eegmmidb_mi-003"]),
        ("docs/tables.md", ["[(0.0, 7.03125), (7.03125, 17.1875)] [(0.0, 10.15625)]"]),
    ],
)
def test_python_blocks(page, printed, tmp_path, monkeypatch, capsys):
    """Each block by itself, from top to bottom, in a folder with nothing but `hub/` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub").symlink_to(ROOT / "hub")
    logging.set_verbosity_error()
    assert blocks(page)
    for block in blocks(page):
        exec(compile(block, page, "exec"), {})
    output = capsys.readouterr().out
    for words in printed:
        assert words in output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_commands(page):
    """Links lead to files and headings; targets of `make` and named files exist."""
    text = page.read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("http"):
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        if heading:
            assert heading in headings(target), f"{page.name}: {link}"
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^\s*)make ([\w-]+)", text, re.MULTILINE)) <= targets
    files = (
        r"(?:examples|research|benchmarks|conversion|docs|tests|neuript_hf)/[\w/-]+\.(?:py|yaml|toml|md|json|csv)\b"
    )
    named = re.findall(files, text)
    if page.name not in ("CHANGELOG.md", "LOG.md"):  # which have old names
        assert [file for file in named if not (ROOT / file).exists()] == []


def headings(page: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_tables_are_those_of_the_result_files():
    """`python research/write_tables.py` writes them."""
    assert write_tables.main(check=True) == 0


def test_each_guarantee_has_its_test():
    """Every row of the tables names tests that exist."""
    rows = re.findall(r"^\| (?!-|guarantee)(.*) \|$", (ROOT / "docs" / "guarantees.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(\w+)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / f"{file}.py").read_text(), f"{file}::{test}"
