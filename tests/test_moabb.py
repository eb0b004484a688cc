"""
NeurIPT in MOABB, on its own fake data set. Skipped where MOABB is not installed: it brings much along, so it has an
environment of its own (`make test-integrations`).
"""

import re

import numpy as np
import pytest
from conftest import COMPACT, ROOT, small_config
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from transformers import set_seed

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTModel, save_checkpoint
from neuript_hf.integrations.estimators import NeurIPTClassifier, NeurIPTEmbedder


pytest.importorskip("moabb")
from mne.decoding import CSP
from moabb.datasets.fake import FakeDataset
from moabb.evaluations import CrossSubjectEvaluation
from moabb.paradigms import LeftRightImagery


CHANNELS = ["C3", "Cz", "C4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    set_seed(0)
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=3.0)
    save_checkpoint(NeurIPTModel(small_config(**COMPACT)), extractor, folder)
    return folder


@pytest.fixture(scope="module")
def fake():
    return FakeDataset(
        event_list=("left_hand", "right_hand"), n_subjects=3, n_sessions=1, n_runs=1, n_events=16, duration=60, seed=0
    )


@pytest.fixture
def scores(fake, tmp_path):
    """A function that evaluates pipelines across subjects, by MOABB's rules: a table by pipeline and subject."""

    def evaluate(pipelines, **settings):
        paradigm = LeftRightImagery(fmin=0.5, fmax=40)
        evaluation = CrossSubjectEvaluation(
            paradigm=paradigm, datasets=[fake], overwrite=True, hdf5_path=str(tmp_path), **settings
        )
        results = evaluation.process(pipelines)
        return results.pivot(index="subject", columns="pipeline", values="score")

    return evaluate


def test_across_subjects_beside_a_classical_pipeline(folder, fake, scores):
    """Epochs: MOABB's metadata say whose they are, so penalties and means are those of people."""
    pipelines = {
        "NeurIPT": NeurIPTClassifier(folder),
        "NeurIPT, centred": NeurIPTClassifier(folder, centred=True, penalty=1.0),
        "NeurIPT + LDA": make_pipeline(NeurIPTEmbedder(folder, band_power=True), LinearDiscriminantAnalysis()),
    }
    table = scores(pipelines, return_epochs=True)
    assert list(table.index) == ["1", "2", "3"] and table.notna().all(axis=None)

    X, y, metadata = LeftRightImagery(fmin=0.5, fmax=40).get_data(fake, return_epochs=True)
    people = metadata["subject"].to_numpy()
    for person in (1, 2, 3):
        rest, left_out = np.flatnonzero(people != person), np.flatnonzero(people == person)
        for name, classifier in pipelines.items():
            classifier.fit(X[rest], y[rest] == "right_hand")
            auc = roc_auc_score(y[left_out] == "right_hand", classifier.decision_function(X[left_out]))
            assert table.loc[str(person), name] == pytest.approx(auc), name


def test_arrays_beside_a_classical_pipeline(folder, scores):
    """Arrays are in microvolts, and MOABB hands the people on to `fit` by itself."""
    people = []

    class Listening(NeurIPTClassifier):
        def fit(self, X, y, subjects=None):
            people.append(sorted(set(subjects)))
            return super().fit(X, y, subjects)

    arrays = {"sampling_rate": 128, "channel_names": CHANNELS, "unit": "uV"}
    table = scores(
        {
            "NeurIPT": Listening(folder, penalty=1.0, **arrays),
            "CSP + LDA": make_pipeline(CSP(2), LinearDiscriminantAnalysis()),
        }
    )
    assert table.shape == (3, 2) and table.notna().all(axis=None)
    assert sorted(people) == [[1, 2], [1, 3], [2, 3]]


def test_the_program_of_the_docs(fake, tmp_path, monkeypatch, capsys):
    """As it stands there, but for the data sets."""
    (program,) = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "scikit-learn.md").read_text(), re.DOTALL)
    program, replaced = re.subn(r"^datasets = .*$", "datasets = [fake]", program, flags=re.MULTILINE)
    assert replaced == 1
    (tmp_path / "hub").symlink_to(ROOT / "hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOABB_RESULTS", str(tmp_path))
    exec(compile(program, "docs/scikit-learn.md", "exec"), {"fake": fake})
    printed = capsys.readouterr().out
    for name in ("CSP + LDA", "tangent space", "NeurIPT + band power", "NeurIPT, centred"):
        assert name in printed
