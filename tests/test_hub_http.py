"""The Hub over HTTP: what is pushed is whole there, comes back as it was, and is all there or not at all."""

import json
import logging
from dataclasses import asdict
from itertools import count
from pathlib import Path

import pytest
import torch
from conftest import make_batch, make_window, small_config
from datasets import Dataset
from hub_server import HubServer
from huggingface_hub import HfApi, ModelCard, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from neuript_hf import (
    DataCollatorForEEG,
    EEGPipeline,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
    NeurIPTTrainer,
    save_checkpoint,
    verify,
)
from neuript_hf.__main__ import main
from neuript_hf.checkpoints.links import code_files
from neuript_hf.checkpoints.training_record import TrainingRecord, TrainingStage, read_training_record


TINY = Path(__file__).parents[1] / "hub" / "neuript-tiny"
CODE = {path.name for path in code_files()}
MODEL = {"config.json", "model.safetensors", "golden.safetensors", "training.json", "README.md"}
EXTRACTOR = NeurIPTFeatureExtractor()
SEEDS = count()
STAGE = TrainingStage("pre-training", [], ["a/01"], 1, 8, 1.0, 1, "a CPU", None, "python train.py", [0])


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubServer() as server, pytest.MonkeyPatch.context() as patch:
        server.take_over(patch, tmp_path_factory.mktemp("cache"))
        yield server


@pytest.fixture
def name(request) -> str:
    """A repository of the test's own."""
    return f"org/{''.join(letter if letter.isalnum() else '-' for letter in request.node.name)[:80].strip('-')}"


def classifier() -> NeurIPTForSequenceClassification:
    """Other weights every time: what the Hub has once, it does not take again."""
    torch.manual_seed(next(SEEDS))
    return NeurIPTForSequenceClassification(small_config()).eval()


def card_of(hub, name, revision="main") -> str:
    return hub.files(name, revision)["README.md"].decode()


# Every class


def embed(model):
    return EEGPipeline(model, feature_extractor=EXTRACTOR, task="eeg-classification")


@pytest.mark.parametrize(
    ("make", "files"),
    [
        (small_config, {"config.json"}),
        (NeurIPTFeatureExtractor, {"preprocessor_config.json"}),
        (lambda: NeurIPTModel(small_config()), MODEL),
        (lambda: NeurIPTForPreTraining(small_config()), MODEL),
        (classifier, MODEL),
        (lambda: embed(classifier()), MODEL | {"preprocessor_config.json"}),
    ],
    ids=["configuration", "feature extractor", "encoder", "pre-training", "classifier", "pipeline"],
)
def test_every_class_is_pushed_whole(make, files, hub, name):
    """With its code, in one commit; where there are no weights, without a card: an empty one would say nothing."""
    pushed = make()
    commit = pushed.push_to_hub(name, commit_message="First")
    assert hub.files(name).keys() == files | CODE
    assert [found.title for found in hub.repositories[name].commits.values()] == ["initial commit", "First"]
    assert commit.oid == hub.repositories[name].branches["main"]
    if "README.md" in files:
        assert f"# {name.partition('/')[2]}\n" in card_of(hub, name)
    if "config.json" in files:
        config = getattr(getattr(pushed, "model", pushed), "config", pushed)
        assert AutoConfig.from_pretrained(name).hidden_size == config.hidden_size
    if "preprocessor_config.json" in files:
        assert AutoFeatureExtractor.from_pretrained(name).montage == "double_banana"
    if isinstance(pushed, torch.nn.Module):
        loaded = type(pushed).from_pretrained(name).eval()
        assert torch.equal(loaded(**make_batch())[0], pushed.eval()(**make_batch())[0])


def test_model_and_extractor_one_after_the_other(hub, name, caplog):
    """The card follows what the repository has, in either order, until somebody edits it."""
    model = classifier()
    model.push_to_hub(name)
    assert "This folder has no feature extractor" in card_of(hub, name)
    EXTRACTOR.push_to_hub(name)
    assert "| montage | double_banana |" in (card := card_of(hub, name)) and "no feature extractor" not in card
    assert f'pipeline("eeg-classification", model="{name}"' in card  # there are weights
    verify(snapshot_download(name))
    EXTRACTOR.push_to_hub(f"{name}-again")
    model.push_to_hub(f"{name}-again")
    assert hub.files(f"{name}-again").keys() == hub.files(name).keys()
    again = card_of(hub, f"{name}-again").replace("-again", "")
    assert again.partition("<!--")[0] == card.partition("<!--")[0]
    HfApi().upload_file(path_or_fileobj=b"---\ntags: [mine]\n---\n# Mine\n", path_in_repo="README.md", repo_id=name)
    with caplog.at_level(logging.WARNING):
        classifier().push_to_hub(name)
    assert card_of(hub, name) == "---\ntags: [mine]\n---\n# Mine\n"


def test_new_weights_take_away_what_was_about_the_old(hub, name, tmp_path):
    """A record of other weights would say that people are unseen who are not. Old revisions keep theirs."""
    known = classifier()
    first = known.push_to_hub(name, max_shard_size="40KB").oid
    assert read_training_record(name).stages == []
    unknown = classifier()
    unknown.keep_record(None)
    unknown.push_to_hub(name)
    assert hub.files(name).keys() == (MODEL | CODE) - {"training.json"}
    assert read_training_record(name) is None
    assert "not known whom these weights have seen" in card_of(hub, name)
    for revision, model in ((first, known), (None, unknown)):
        loaded = AutoModelForSequenceClassification.from_pretrained(name, revision=revision or "main").eval()
        assert torch.equal(loaded(**make_batch()).logits, model(**make_batch()).logits)
        assert (loaded.training_record is None) is (model is unknown)


def test_branches_pull_requests_and_private_repositories(hub, name, monkeypatch):
    model = classifier()
    model.push_to_hub(name, revision="dev", private=True)
    assert hub.files(name) == {} and hub.files(name, "dev").keys() == MODEL | CODE
    assert HfApi().model_info(name, revision="dev").private
    request = model.push_to_hub(name, create_pr=True)
    assert request.pr_num == 1 and hub.files(name) == {}
    assert hub.files(name, "refs/pr/1").keys() == MODEL | CODE
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(HfHubHTTPError, match="401"):
        model.push_to_hub(f"{name}-other")
    with pytest.raises(OSError, match="not a valid model identifier|private"):
        AutoModel.from_pretrained(name, revision="dev")


def test_saving_with_push_sends_what_was_saved_and_nothing_else(hub, name, tmp_path):
    """Recordings that lie in the folder stay at home."""
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "subject01_raw.fif").write_bytes(b"EEG")
    for saved in (classifier(), EXTRACTOR):
        saved.save_pretrained(folder, push_to_hub=True, repo_id=name)
    assert {path.name for path in folder.iterdir()} - {"subject01_raw.fif"} == hub.files(name).keys()
    assert "subject01_raw.fif" not in hub.files(name)


# Trainers and adapters


def windows() -> Dataset:
    return Dataset.from_list([make_window(seed=n, labels=n % 3, subject=f"p{n % 2}") for n in range(4)])


@pytest.mark.parametrize("trainer_class", [NeurIPTTrainer, Trainer])
def test_trainers_push_while_they_train_and_afterwards(trainer_class, hub, name, tmp_path):
    """Every commit with weights has the feature extractor and their record, that of `Trainer` last, with a gap."""
    options = {"hub_model_id": name, "push_to_hub": True, "hub_always_push": True, "save_strategy": "steps"}
    run = trainer_class(
        model=classifier(),
        args=TrainingArguments(
            tmp_path / "run", save_steps=1, max_steps=1, use_cpu=True, report_to="none", disable_tqdm=True, **options
        ),
        train_dataset=windows(),
        data_collator=DataCollatorForEEG(),
        processing_class=EXTRACTOR,
    )
    run.train()
    run.push_to_hub()
    commits = [commit for commit in hub.repositories[name].commits.values() if "model.safetensors" in commit.files]
    assert len(commits) >= 2  # on the way, and at the end
    assert all({"config.json", "preprocessor_config.json"} | CODE <= commit.files.keys() for commit in commits)
    records = [
        json.loads(commit.files["training.json"].content) for commit in commits if "training.json" in commit.files
    ]
    if trainer_class is NeurIPTTrainer:
        assert len(records) == len(commits)
        assert all(record["stages"][-1]["subjects"] == ["p0", "p1"] for record in records)
    else:
        assert records and all(record["gaps"] for record in records)
    loaded = AutoModelForSequenceClassification.from_pretrained(name).eval()
    assert torch.equal(loaded(**make_batch()).logits, run.model.eval()(**make_batch()).logits)
    assert verify(snapshot_download(name))["problems"] == []
    if trainer_class is NeurIPTTrainer:  # the other writes a card of its own
        assert f"# {name.partition('/')[2]}\n" in (card := card_of(hub, name)) and f'model="{name}"' in card
        assert ModelCard(card).data.library_name == "neuript_hf"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "alone"])
def test_adapters(whole, hub, name, tmp_path):
    """By PEFT, alone, beside a base that is on the Hub; or as a folder with its base, by `neuript push`."""
    peft = pytest.importorskip("peft")
    plain = classifier()
    plain.keep_record(asdict(TrainingRecord([STAGE])))
    plain.push_to_hub(f"{name}-base")
    base = AutoModelForSequenceClassification.from_pretrained(f"{name}-base")
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(base, settings).eval()
    if whole:
        save_checkpoint(model, EXTRACTOR, tmp_path / "adapted", merge_adapters=False)
        assert main(["push", str(tmp_path / "adapted"), name]) == 0
        assert json.loads(hub.files(name)["adapter_config.json"])["base_model_name_or_path"] == name
        assert verify(snapshot_download(name))["problems"] == []
    else:
        model.push_to_hub(name)
        assert "model.safetensors" not in hub.files(name)
    loaded = AutoModelForSequenceClassification.from_pretrained(name).eval()
    assert torch.equal(loaded(**make_batch()).logits, model(**make_batch()).logits)
    assert loaded.training_record["stages"][0]["subjects"] == ["a/01"] and loaded.training_record["gaps"]


# A checkpoint of this repository


@pytest.fixture(scope="module")
def tiny(hub) -> str:
    """`hub/neuript-tiny`, on the branch v1, by the command."""
    assert main(["push", str(TINY), "org/neuript-tiny", "--revision", "v1"]) == 0
    return "org/neuript-tiny"


def test_a_checkpoint_by_the_command(hub, tiny, capsys):
    """With links it leaves, with files it arrives, its large file in parts, and comes back to the last bit."""
    assert any(asked.startswith("PUT /storage/") and asked.count("/") == 3 for asked in hub.requests)
    folder = Path(snapshot_download(tiny, revision="v1"))
    assert {path.name for path in folder.iterdir()} - {".gitattributes"} == {path.name for path in TINY.iterdir()}
    card = (folder / "README.md").read_text()
    assert (
        card == (TINY / "README.md").read_text().replace('"neuript-tiny"', f'"{tiny}"') and f'model="{tiny}"' in card
    )
    same = [path for path in TINY.iterdir() if path.name != "README.md"]
    assert all((folder / path.name).read_bytes() == path.read_bytes() for path in same)
    commits = len(hub.repositories[tiny].commits)
    assert main(["push", str(TINY), tiny, "--revision", "v1"]) == 0
    assert len(hub.repositories[tiny].commits) == commits  # nothing is new
    capsys.readouterr()
    assert main(["push", str(TINY / "nothing"), tiny]) == 1
    assert "is not a checkpoint folder" in capsys.readouterr().err


# What breaks off


@pytest.mark.parametrize("cut", ["PUT /storage", "POST /api/models"], ids=["weights", "commit"])
def test_an_interrupted_upload_shows_nothing_and_is_repeated(cut, hub, name, monkeypatch):
    """The connection breaks in the middle of a large file, or of the commit: what was there before is there still."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its repetitions
    first, second = classifier(), classifier()
    first.push_to_hub(name)
    before, commits = hub.files(name), len(hub.repositories[name].commits)
    monkeypatch.setattr(hub, "cut", cut if cut.startswith("PUT") else f"{cut}/{name}/commit")
    with pytest.raises(Exception, match="Error while uploading|disconnected|closed|reset"):
        second.push_to_hub(name)
    assert hub.files(name) == before and len(hub.repositories[name].commits) == commits
    assert torch.equal(type(first).from_pretrained(name).eval()(**make_batch()).logits, first(**make_batch()).logits)
    monkeypatch.setattr(hub, "cut", None)
    already = len(hub.requests)
    second.push_to_hub(name)
    sent = [asked for asked in hub.requests[already:] if asked.startswith("PUT /storage")]
    assert bool(sent) is cut.startswith("PUT")  # what had arrived is not sent again
    assert hub.files(name).keys() == before.keys() and len(hub.repositories[name].commits) == commits + 1
    assert torch.equal(type(second).from_pretrained(name).eval()(**make_batch()).logits, second(**make_batch()).logits)
