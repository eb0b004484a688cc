"""
The documentation site: `make docs` builds it into docs/_build/html, without network.

The repository is Sphinx's source folder, so that the pages, which GitHub shows as they are, keep their links to each
other, to README.md and to the cards in hub/. A link to a file that is no page downloads it.
"""

import os
import re
import warnings
from pathlib import Path

from sphinx.addnodes import pending_xref
from transformers.utils import logging

import neuript_hf


ROOT = Path(__file__).resolve().parents[1]

project = "neuript_hf"
author = "The neuript_hf developers"
copyright = "The neuript_hf developers"
version = release = neuript_hf.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/generated/**",
    "hub/*/README.md",
    "hub/*/evaluation.md",
    "research/LOG.md",
]
exclude_patterns = ["**/.*", "build", "demo", "dist", "docs/_build", "docs/generated/gallery/*.ipynb", "runs"]
# Whole, since autosummary looks for it in the source folder, and Sphinx beside this file.
templates_path = [str(ROOT / "docs" / "_templates")]

# What stands to the left of each page; the top of the page has the entries of docs/index.md.
NAVIGATION = {
    "docs/README": [
        "your-recording",
        "formats",
        "tables",
        "batch-contract",
        "fine-tuning",
        "scikit-learn",
        "streaming",
        "explain",
        "space",
        "cluster",
        "pre-training",
        "checkpoints",
        "performance",
        "guarantees",
        "braindecode",
        "ecosystem",
        "training-arguments",
    ],
    "docs/checkpoints": [
        "../model_card",
        *(f"../hub/{path.parent.name}/{path.stem}" for path in sorted(ROOT.glob("hub/*/*.md"))),
    ],
    "docs/maintaining": ["../CONTRIBUTING", "../research/LOG"],
}

# Markdown: anchors as GitHub makes them.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# Docstrings. `nitpicky` looks at each of their links; types in signatures may be those of other packages.
autosummary_generate = True
autodoc_default_options = {"members": True, "member-order": "bysource", "special-members": "__call__"}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
nitpicky = True
nitpick_ignore_regex = [("py:(class|data|exc|func|meth|mod)", ".*")]
SOURCES = [path.read_text() for path in ROOT.glob("neuript_hf/**/*.py")]
DEFINED = {"Trainer", *re.findall(r"^ *(?:class|def) (\w+)", "\n".join(SOURCES), re.MULTILINE)}

# The examples run one after the other, in this process and in docs/gallery.
sphinx_gallery_conf = {
    "examples_dirs": "docs/gallery",
    "gallery_dirs": "docs/generated/gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "docs/generated/backreferences",
    "doc_module": ("neuript_hf",),
    "first_notebook_cell": "# Run it in the clone, where hub/ is.\n%matplotlib inline",
    "image_srcset": ["2x"],
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
    "abort_on_example_error": True,
}
os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
logging.disable_progress_bar()
logging.set_verbosity_error()
warnings.filterwarnings("ignore", category=UserWarning, message=".*pin_memory.*")

html_theme = "pydata_sphinx_theme"
html_title = "neuript_hf"
html_additional_pages = {"index": "to_first_page.html"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "NeurIPT"},
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"docs/index": [], "docs/quickstart": [], "docs/model": [], "docs/results": [], "docs/peers": []}


def add_navigation(app, page: str, source: list[str]):
    """Appends the pages below a page, which on GitHub would stand there as code."""
    if page in NAVIGATION:
        source[0] += "\n".join(["\n\n```{toctree}", ":hidden:", "", *NAVIGATION[page], "```\n"])


def docstring_to_rst(app, kind: str, name: str, target: object, options: dict, lines: list[str]):
    """The docstrings are in Markdown: `code`, [`Name`] for a link, tables."""
    text = re.sub(r"(?:^ *\|.*\|$\n?)+", _list_table, "\n".join(lines), flags=re.MULTILINE)
    text = re.sub(r"\[`([\w.]+)`\]|`([^`]+)`(?=(\w?))|([|])", _inline, text)
    lines[:] = text.split("\n")


def _inline(found: re.Match) -> str:
    link, code, letter, special = found.groups()
    if special:
        return f"\\{special}"
    return f":py:obj:`~.{link}`" if link else f"``{code}``" + ("\\ " if letter else "")


def _list_table(found: re.Match) -> str:
    indent = re.match(" *", found[0])[0]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in found[0].splitlines()]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [rows[0], *rows[2:]]:
        lines += [f"   {'* -' if number == 0 else '  -'} {cell}" for number, cell in enumerate(row)]
    return "".join(f"{indent}{line}\n" for line in [*lines, ""])


def folders_by_name(app, doctree):
    """A link to a folder of the repository, which has no page, becomes its name."""
    here = ROOT / app.env.docname
    for link in list(doctree.findall(pending_xref)):
        if link["reftype"] == "myst" and (here.parent / link["reftarget"]).is_dir():
            link.replace_self(link.children)


def code_by_name(app, env, link, text):
    """A link of a docstring to what has no page of its own becomes its name, if there is something of that name."""
    return text if link["reftype"] == "obj" and link["reftarget"].rpartition(".")[2] in DEFINED else None


def setup(app):
    app.connect("source-read", add_navigation)
    app.connect("doctree-read", folders_by_name)
    app.connect("missing-reference", code_by_name)
    app.connect("autodoc-process-docstring", docstring_to_rst, priority=400)  # before napoleon reads the sections
