"""Situations that users of neighbouring projects reported: scripts that exit with 0 where all is right."""

import pytest
from conftest import SHARED_DATA, start_python


SCRIPTS = sorted((SHARED_DATA.parent / "cases").glob("*.py"))
# The modules that the scripts import, where they are now.
MOVED = {
    "neuript_hf.metrics": "neuript_hf.evaluation.metrics",
    "neuript_hf.training_record": "neuript_hf.checkpoints.training_record",
    "from neuript_hf.data import": "from neuript_hf.data.manifest import",
}


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_all_is_right(script, tmp_path):
    text = script.read_text()
    for before, now in MOVED.items():
        text = text.replace(before, now)
    (tmp_path / script.name).write_text(text)
    run = start_python(tmp_path / script.name)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-1000:]
