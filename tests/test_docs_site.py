"""The documentation site without Sphinx: `make docs` builds it, and runs the gallery."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest


DOCS = Path(__file__).parents[1] / "docs"
GALLERY = sorted((DOCS / "gallery").glob("*.py"))


def test_every_page_is_in_the_navigation():
    navigation = (DOCS / "index.md").read_text() + (DOCS / "conf.py").read_text()
    entries = set(re.findall(r"[\w./-]+", navigation))
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages - entries == set()
    assert {entry for entry in re.findall(r"<(\S+)>$", navigation, re.MULTILINE)} <= pages | {
        "../README",
        "../CHANGELOG",
    }


def test_every_name_of_the_api_page_exists():
    """And every public name is on it."""
    names = re.findall(r"^   ([\w.]+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    for name in names:
        assert callable(pkgutil.resolve_name(f"neuript_hf.{name}")), name
    assert set(importlib.import_module("neuript_hf").__all__) <= set(names)


@pytest.mark.parametrize("script", GALLERY, ids=lambda script: script.stem)
def test_gallery_script(script):
    """
    Sphinx-gallery runs it, in its place, and titles it; what it imports from the package and the pages and checkpoints
    that it names exist.
    """
    assert re.fullmatch(r"plot_\d\d_\w+", script.stem)
    text = script.read_text()
    tree = ast.parse(text)
    title, underline = ast.get_docstring(tree).splitlines()[:2]
    assert underline == "=" * len(title)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("neuript_hf"):
            for name in node.names:
                pkgutil.resolve_name(f"{node.module}:{name.name}")
    for page in re.findall(r"<\.\./\.\./([^>]+)\.html>", text):
        assert (DOCS / f"{page}.md").exists(), page
    for other in re.findall(r":ref:`sphx_glr_docs_generated_gallery_([^`]+)`", text):
        assert (DOCS / "gallery" / other).exists(), other
    for checkpoint in re.findall(r'"(hub/[^"]+)"', text):
        assert (DOCS.parent / checkpoint / "config.json").exists(), checkpoint
