"""What a model knows of its weights, through all that saves them: whom they have seen, and what is untrained."""

import copy
import json

import numpy as np
import pytest
import torch
from conftest import COMPACT, make_batch, masked_batch, small_config, write_recording
from datasets import Dataset
from hub_server import HubServer
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.modeling_outputs import BaseModelOutput

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
from neuript_hf.checkpoints.export import export_checkpoint
from neuript_hf.checkpoints.training_record import read_training_record
from neuript_hf.history import CHANGED, UNRECORDED, join_records, read_record
from neuript_hf.modeling_neuript import NeurIPTPreTrainedModel


CONFIG = {"num_hidden_layers": 2, "merge_sizes": [1, 2], "num_experts": [0, 2], "num_labels": 2}
EXTRACTOR = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=1.0)
TOLD = {"sampling_rate": 128, "unit": "uV"}


def stage(*people, **fields):
    details = {"datasets": [], "steps": 5, "windows_seen": 9, "seconds": 1.0, "threads": 1, "machine": "x"}
    details |= {"commit": None, "command": "y", "seeds": [0], "kind": "pre-training", "recipe": {}}
    return details | {"subjects": list(people)} | fields


RECORD = {"stages": [stage("a/01")], "fingerprints": {"a/01": ["xyz"]}}


def signal(names, seconds=4):
    return np.random.default_rng(0).normal(0, 10, (len(names), 128 * seconds))


def windows(names=("F3", "F4", "C3", "C4"), people=("p0", "p1", "p2"), **columns):
    """16 windows of a second; the people take turns."""
    batch = EXTRACTOR(signal(names, 16), channel_names=list(names), **TOLD)
    rows = [{name: values[index] for name, values in batch.items()} for index in range(16)]
    own = [{"labels": index % 2, "subject": people[index % len(people)]} | columns for index in range(16)]
    return Dataset.from_list([row | more for row, more in zip(rows, own, strict=True)])


def arguments(folder, **kwargs):
    settings = {"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 4, "report_to": "none"}
    return TrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, **(settings | kwargs))


def trainer(model, folder, data=None, trainer_class=NeurIPTTrainer, **kwargs):
    return trainer_class(
        model,
        arguments(folder, **kwargs),
        train_dataset=windows() if data is None else data,
        data_collator=DataCollatorForEEG(),
        processing_class=EXTRACTOR,
    )


@pytest.fixture
def recorded(tmp_path):
    """A classifier on disk whose weights have seen a person."""
    model = NeurIPTForSequenceClassification(small_config(**CONFIG))
    model.keep_record(RECORD)
    save_checkpoint(model, EXTRACTOR, tmp_path / "recorded")
    return tmp_path / "recorded"


@pytest.fixture
def headless(tmp_path):
    """A pre-training checkpoint: it has no head for a task."""
    save_checkpoint(NeurIPTForPreTraining(small_config(**CONFIG)), EXTRACTOR, tmp_path / "headless")
    return tmp_path / "headless"


def load(folder, **kwargs):
    return NeurIPTForSequenceClassification.from_pretrained(folder, **kwargs)


def change(model):
    """As a training loop of the user's own does."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.999)


# The record


def test_random_weights_have_seen_nobody_and_others_are_unknown(recorded, tmp_path):
    """An empty record is not the same as none."""
    assert NeurIPTModel(small_config(**CONFIG)).training_record == {"stages": []}
    assert load(recorded).training_record == RECORD
    (recorded / "training.json").unlink()
    assert load(recorded).training_record is None
    load(recorded).save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again" / "training.json").exists() and read_training_record(tmp_path / "again") is None
    assert "It is not known whom these weights have seen" in (tmp_path / "again" / "README.md").read_text()


def push(model, folder):
    with HubServer() as hub, pytest.MonkeyPatch.context() as patch:
        hub.take_over(patch, folder.parent / "cache")
        model.push_to_hub("someone/neuript")
        hub.copy("someone/neuript", folder)


SAVERS = {
    "save_pretrained": lambda model, folder: model.save_pretrained(folder),
    "save_checkpoint": lambda model, folder: save_checkpoint(model, EXTRACTOR, folder),
    "pipeline": lambda model, folder: pipeline_of(model).save_pretrained(folder),
    "NeurIPTTrainer": lambda model, folder: trainer(model, folder).save_model(),
    "Trainer": lambda model, folder: trainer(model, folder, trainer_class=Trainer).save_model(),
    "encoder": lambda model, folder: model.base_model.save_pretrained(folder),
    "push_to_hub": push,
    "in shards": lambda model, folder: model.save_pretrained(folder, max_shard_size="20KB"),
}


def pipeline_of(model):
    return EEGPipeline(model, feature_extractor=EXTRACTOR, task="eeg-classification")


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_whatever_saves_weights_writes_a_whole_folder(save, recorded, tmp_path):
    """Record, card, code with the pipeline's, golden tensors; verified, exported, and loaded again."""
    folder = tmp_path / "saved"
    save(load(recorded), folder)
    assert read_record(folder) == RECORD
    files = {path.name for path in folder.iterdir()}
    assert {"config.json", "README.md", "training.json", "golden.safetensors", "pipeline_neuript.py"} <= files
    assert f"# {'neuript' if save is push else 'saved'}\n" in (folder / "README.md").read_text()
    pipelines = json.loads((folder / "config.json").read_text())["custom_pipelines"]
    assert set(pipelines) == {"eeg-embedding", "eeg-classification"}
    assert verify(folder)["passed"]
    assert AutoModel.from_pretrained(folder).training_record == RECORD
    if (folder / "preprocessor_config.json").exists():
        assert read_record(export_checkpoint(folder, tmp_path / "exported")) == RECORD


def test_a_folder_without_a_feature_extractor_is_not_whole(recorded, tmp_path):
    """verify and the card say so, and export refuses it; what the error advises makes it whole."""
    folder = tmp_path / "saved"
    NeurIPTTrainer(load(recorded), arguments(folder), train_dataset=windows()).save_model()
    verdict = verify(folder)
    assert verdict["passed"] and "no preprocessor_config.json, so no pipeline" in verdict["problems"][0]
    missing = "**This folder has no feature extractor yet**"
    assert missing in (folder / "README.md").read_text()
    with pytest.raises(ValueError, match=r"is not whole.*extractor.save_pretrained\(folder\)"):
        export_checkpoint(folder, tmp_path / "exported")
    EXTRACTOR.save_pretrained(folder)
    assert verify(folder) == {"passed": True, "largest_difference": 0.0, "problems": []}
    assert missing not in (folder / "README.md").read_text()
    exported, names = export_checkpoint(folder, tmp_path / "exported"), ["F3", "F4", "C3"]
    assert len(pipeline("eeg-classification", str(exported))(signal(names), channel_names=names, **TOLD)) == 4


def test_adapters_without_a_feature_extractor_are_saved_alone(recorded, tmp_path):
    model = adapted(load(recorded))
    NeurIPTTrainer(model, arguments(tmp_path / "run"), train_dataset=windows()).save_model()
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"adapter_config.json", "training.json"} <= files and "model.safetensors" not in files


def test_a_record_of_other_weights_is_removed(recorded, tmp_path):
    """Weights of unknown history do not inherit what lies in the folder."""
    model = load(recorded)
    model.keep_record(None)
    model.save_pretrained(recorded)
    assert read_training_record(recorded) is None


def test_weights_that_something_changed_have_a_gap(recorded, tmp_path):
    """A loop of the user's own, `Trainer`, other weights; not another type, a copy or another device."""
    model = load(recorded)
    for same in (copy.deepcopy(model), model.half(), model.float(), model.double(), model.eval()):
        assert same.training_record == RECORD
    change(model)
    model.save_pretrained(tmp_path / "changed")
    record = read_training_record(tmp_path / "changed")
    assert record.subjects == ["a/01"] and record.gaps == [CHANGED] and not record.complete
    assert CHANGED in (tmp_path / "changed" / "README.md").read_text()
    fresh = NeurIPTForSequenceClassification(small_config(**CONFIG))
    change(fresh)
    assert fresh.training_record == {"stages": [], "gaps": [CHANGED]}
    plain = trainer(load(recorded), tmp_path / "plain", trainer_class=Trainer)
    plain.train()
    plain.save_model()
    for folder in (tmp_path / "plain", tmp_path / "plain" / "checkpoint-1"):
        assert read_training_record(folder).gaps == [CHANGED]


def test_a_model_around_an_encoder_has_the_encoders_record(recorded):
    model = NeurIPTForSequenceClassification(small_config(**CONFIG))
    model.neuript = NeurIPTModel.from_pretrained(recorded)
    assert model.training_record == RECORD
    model.neuript.keep_record(None)
    assert model.training_record is None


def test_a_mean_of_two_checkpoints(recorded):
    """Its record is that of both; averaged without a word it has a gap."""
    one, two = load(recorded), NeurIPTForSequenceClassification(small_config(**CONFIG))
    two.keep_record({"stages": [stage("b/02")]})
    records = [one.training_record, two.training_record]
    one.load_state_dict({name: (value + two.state_dict()[name]) / 2 for name, value in one.state_dict().items()})
    assert one.training_record["gaps"] == [CHANGED]
    one.keep_record(join_records(records))
    assert [part["subjects"] for part in one.training_record["stages"]] == [["a/01"], ["b/02"]]
    assert join_records([RECORD, None]) == RECORD | {"gaps": [UNRECORDED]}
    assert join_records([None, {"stages": []}]) is None and join_records([RECORD, RECORD]) == RECORD


@pytest.mark.parametrize("content", ["[]", "{}", '{"stages": 3}', '{"stages": ['])
def test_another_file_is_no_record(recorded, content):
    (recorded / "training.json").write_text(content)
    with pytest.raises(ValueError, match="is not a training record. Expected JSON with a list `stages`"):
        load(recorded)


# Trainings


def test_a_training_adds_a_stage_to_every_checkpoint(recorded, tmp_path):
    """The people whom the windows name, or what the program says; steps and windows as far as the checkpoint is."""
    run = trainer(load(recorded), tmp_path / "run")
    run.train()
    run.save_model()
    for folder, steps in ((tmp_path / "run" / "checkpoint-1", 1), (tmp_path / "run", 2)):
        before, new = read_training_record(folder).stages
        assert before.subjects == ["a/01"] and new.subjects == ["p0", "p1", "p2"]
        assert (new.steps, new.windows_seen) == (steps, 4 * steps) and verify(folder)["passed"]
        assert read_training_record(folder).complete
    run.recorder.describe("fine-tuning", ([], ["b/07"]), {"rate": 1}, {"b/07": ["uvw"]})
    run.train()
    record = run.model.training_record
    assert [part["kind"] for part in record["stages"]] == ["pre-training", "training", "fine-tuning"]
    assert record["stages"][2]["subjects"] == ["b/07"] and record["fingerprints"] == {"a/01": ["xyz"], "b/07": ["uvw"]}
    change(run.model)
    assert run.model.training_record["gaps"] == [CHANGED]


def test_a_resumed_training_keeps_whom_it_saw_before(tmp_path):
    trainer(NeurIPTForSequenceClassification(small_config(**CONFIG)), tmp_path / "first").train()
    data = windows(people=("p7",))
    run = trainer(NeurIPTForSequenceClassification(small_config(**CONFIG)), tmp_path / "on", data)
    run.train(resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-1"))
    (only,) = run.model.training_record["stages"]
    assert only["subjects"] == ["p0", "p1", "p2", "p7"] and only["steps"] == 2
    assert "gaps" not in run.model.training_record


def test_windows_without_people_leave_a_gap(tmp_path):
    data = windows().remove_columns("subject")
    run = trainer(NeurIPTForSequenceClassification(small_config(**CONFIG)), tmp_path, data, save_strategy="no")
    run.train()
    assert "do not say from which person" in run.model.training_record["gaps"][0]


class Around(nn.Module):
    """A module of the user's own that is no model of transformers."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(3 * 5 * 16, 1)

    def forward(
        self, input_values, electrode_positions, lobe_mask, channel_mask=None, attention_mask=None, labels=None
    ):
        outputs = self.encoder(input_values, electrode_positions, lobe_mask, channel_mask, attention_mask)
        return {"loss": self.head(outputs.pooler_output).square().mean()}


def test_an_encoder_in_a_module_of_another_kind(recorded, tmp_path):
    """`Trainer` saves its bare weights; the encoder's record lies beside them."""
    run = trainer(Around(NeurIPTModel.from_pretrained(recorded)), tmp_path / "run")
    run.train()
    run.save_model()
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-1"):
        assert read_training_record(folder).subjects == ["a/01", "p0", "p1", "p2"]
    encoder = load(recorded).neuript
    again = NeurIPTTrainer(Around(encoder), run.args, train_dataset=windows(), compute_loss_func=lambda *_, **__: 0.0)
    assert isinstance(again.data_collator, DataCollatorForEEG)
    with pytest.raises(ValueError, match="returns has no aux_loss"):
        again.train()


def test_what_trainer_uploads_is_whole(recorded, tmp_path):
    """`Trainer` copies weights and configuration alone from a checkpoint, and writes a card of its own."""
    run = trainer(load(recorded), tmp_path / "run")
    run.callback_handler.on_push_begin(run.args, run.state, run.control)
    assert read_record(tmp_path / "run") == RECORD
    run.save_model()
    run.create_model_card(model_name="neuript")
    assert "library_name: neuript_hf" in (tmp_path / "run" / "README.md").read_text()


# Adapters


def adapted(model, **kwargs):
    peft = pytest.importorskip("peft")
    targets = {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj"]}
    return peft.get_peft_model(model, peft.LoraConfig(r=2, modules_to_save=["classifier"], **targets, **kwargs))


@pytest.mark.parametrize("merge", [True, False])
def test_a_checkpoint_with_adapters(merge, recorded, tmp_path):
    """Merged or beside the base, as the argument says: both load with the adapted model's outputs, twice over."""
    run = trainer(adapted(load(recorded)), tmp_path / "run", learning_rate=0.05)
    run.train()
    batch = make_batch()
    model = run.model.eval()
    expected = model(**batch).logits
    embedding = model.get_base_model().base_model(**batch).pooler_output
    assert (expected - load(recorded)(**batch).logits).abs().max() > 1e-3
    for number in range(2):
        folder = tmp_path / f"saved{number}"
        save_checkpoint(model, EXTRACTOR, folder, merge_adapters=merge)
        assert (folder / "adapter_config.json").exists() is not merge
        assert verify(folder)["passed"] and "neuript_hf" in (folder / "README.md").read_text()
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        torch.testing.assert_close(model(**batch).logits, expected, atol=1e-5, rtol=1e-5)
        encoder = AutoModel.from_pretrained(folder)
        torch.testing.assert_close(encoder(**batch).pooler_output, embedding, atol=1e-5, rtol=1e-5)
        record = read_training_record(folder)
        assert record.complete and [part.subjects for part in record.stages] == [["a/01"], ["p0", "p1", "p2"]]
    save_checkpoint(load(recorded), EXTRACTOR, folder)  # adapters of an earlier saving do not remain
    torch.testing.assert_close(load(folder)(**batch).logits, load(recorded)(**batch).logits)


@pytest.mark.parametrize("merge", [True, False])
def test_the_active_one_of_several_adapters_is_saved(merge, recorded, tmp_path):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"], init_lora_weights=False)
    model = peft.get_peft_model(load(recorded), settings, adapter_name="first")
    model.add_adapter("second", settings)
    model.set_adapter("second")
    expected = model.eval()(**make_batch()).logits
    save_checkpoint(model, EXTRACTOR, tmp_path / "saved", merge_adapters=merge)
    assert verify(tmp_path / "saved")["passed"]
    torch.testing.assert_close(load(tmp_path / "saved")(**make_batch()).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj"], "use_dora": True},  # its magnitudes would not be loaded
        {"target_modules": "all-linear", "exclude_modules": ["router"]},  # as docs/ecosystem.md says
    ],
)
def test_adapters_of_other_kinds_load_as_they_were(settings, recorded, tmp_path):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(load(recorded), peft.LoraConfig(r=2, init_lora_weights=False, **settings)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "magnitude" in name:
                weight.mul_(1.3)
    save_checkpoint(model, EXTRACTOR, tmp_path / "saved", merge_adapters=False)
    assert verify(tmp_path / "saved")["passed"]
    expected = model(**make_batch()).logits
    torch.testing.assert_close(load(tmp_path / "saved")(**make_batch()).logits, expected, atol=1e-5, rtol=1e-5)


def test_trainings_of_adapters(recorded, tmp_path):
    """The folder at the end is whole, checkpoints on the way have the record; merging in memory keeps it."""
    run = trainer(adapted(load(recorded)), tmp_path / "run")
    run.train()
    run.save_model()
    assert verify(tmp_path / "run")["passed"]
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-1"):
        assert read_training_record(folder).subjects == ["a/01", "p0", "p1", "p2"]
    merged = run.model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    assert read_training_record(tmp_path / "merged") == read_training_record(tmp_path / "run")
    assert verify(tmp_path / "merged")["passed"]


def test_adapters_of_unknown_training_leave_a_gap(recorded, tmp_path):
    """As they begin, LoRA's change nothing; trained or loaded elsewhere, nobody knows on whom."""
    model = adapted(load(recorded))
    assert model.get_base_model().training_record == RECORD
    change(model)
    save_checkpoint(model, EXTRACTOR, tmp_path / "merged")
    assert read_training_record(tmp_path / "merged").gaps == [CHANGED]
    random = adapted(load(recorded), init_lora_weights=False)
    assert random.get_base_model().training_record["gaps"] == [CHANGED]
    random.save_pretrained(tmp_path / "adapter")  # PEFT's own: adapters alone, no record
    loaded = load(tmp_path / "adapter")
    assert loaded.training_record == RECORD | {"gaps": [UNRECORDED]}


def test_plain_saving_of_a_model_with_adapters_is_refused(recorded, tmp_path):
    """Its weights would have names that no model loads; what the error advises works."""
    model = adapted(load(recorded))
    with pytest.raises(ValueError, match="carries PEFT's adapters.*save_checkpoint"):
        model.get_base_model().save_pretrained(tmp_path / "wrong")
    save_checkpoint(model, EXTRACTOR, tmp_path / "right")
    model.merge_and_unload().save_pretrained(tmp_path / "too")
    assert verify(tmp_path / "right")["passed"] and verify(tmp_path / "too")["passed"]


def test_pipelines_take_adapted_models(recorded):
    names = ["F3", "F4", "C3", "C4"]
    model = adapted(load(recorded), init_lora_weights=False).eval()
    batch = EXTRACTOR(signal(names), channel_names=names, return_tensors="pt", **TOLD)
    for task, key in (("eeg-embedding", "embedding"), ("eeg-classification", "score")):
        rows = pipeline(task, model=model, feature_extractor=EXTRACTOR)(signal(names), channel_names=names, **TOLD)
        outputs = model.get_base_model()(**batch) if key == "score" else model.get_base_model().base_model(**batch)
        expected = outputs.logits.softmax(-1).amax(-1) if key == "score" else outputs.pooler_output
        found = torch.as_tensor(np.array([row[key] for row in rows]))
        torch.testing.assert_close(found.float(), expected, atol=1e-5, rtol=1e-5)


# Untrained weights


def classify(model, names=("F3", "F4", "C3", "C4")):
    run = pipeline("eeg-classification", model=model, feature_extractor=EXTRACTOR)
    return run, run(signal(names), channel_names=list(names), **TOLD)


def test_a_checkpoint_without_a_head_does_not_answer(headless, tmp_path):
    """Also after saving and loading, in another type, as a copy. Its embeddings are as good as any."""
    model = load(headless)
    model.save_pretrained(tmp_path / "saved")
    save_checkpoint(load(tmp_path / "saved"), EXTRACTOR, tmp_path / "again")
    assert "**Not trained**: classifier.bias, classifier.weight" in (tmp_path / "again" / "README.md").read_text()
    for same in (model, load(tmp_path / "again"), copy.deepcopy(model), load(tmp_path / "saved").bfloat16().float()):
        assert same.untrained_weights == ["classifier.bias", "classifier.weight"]
        with pytest.raises(ValueError, match="no trained weights for classifier.bias.*finetune.py"):
            classify(same)
    run = pipeline("eeg-embedding", model=model, feature_extractor=EXTRACTOR)
    assert len(run(signal(["C3"]), channel_names=["C3"], **TOLD)) == 4


def test_the_command_line_does_not_answer_without_a_head(headless, recorded, tmp_path, capsys):
    file = write_recording(tmp_path / "a_raw.fif", 1, seconds=4)
    assert main(["predict", str(file), "--model", str(headless)]) == 1
    printed = capsys.readouterr()
    assert "no trained weights for classifier" in printed.err and "LABEL" not in printed.out
    assert main(["predict", str(file), "--model", str(recorded)]) == 0 and "LABEL" in capsys.readouterr().out


def test_a_trained_head_answers(headless, tmp_path):
    """What the refusal advises works: train, save, load. So do weights from elsewhere, and random ones on purpose."""
    run = trainer(load(headless), tmp_path / "run", save_strategy="no")
    run.train()
    run.save_model()
    filled = load(headless)
    filled.load_state_dict(NeurIPTForSequenceClassification(small_config(**CONFIG)).state_dict())
    fresh = NeurIPTForSequenceClassification(small_config(**CONFIG))
    fresh.save_pretrained(tmp_path / "fresh")
    for model in (run.model, load(tmp_path / "run"), filled, fresh, load(tmp_path / "fresh")):
        assert model.untrained_weights == []
        assert len(classify(model)[1]) == 4


def test_a_new_head_is_trained_or_refused(headless, tmp_path):
    """LoRA that forgets the head, or a frozen one: it stays random, whatever was trained beside it."""
    peft = pytest.importorskip("peft")
    data = windows(recording="r")  # of two lobes: what the head has for others is set to zero
    forgotten = peft.get_peft_model(load(headless), peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match=r"leave them random.*modules_to_save=\['classifier'\]"):
        trainer(forgotten, tmp_path / "refused", data).train()
    advised = peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["classifier"])
    named = peft.get_peft_model(load(headless), advised)
    trainer(named, tmp_path / "named", data, save_strategy="no").train()
    assert len(classify(named)[1]) == 4, "as the error advises"
    still = load(headless)
    trainer(still, tmp_path / "still", data, save_strategy="no", learning_rate=0.0).train()
    with pytest.raises(ValueError, match="no trained weights for classifier.bias, classifier.weight"):
        classify(still)


def test_a_head_of_another_size_is_untrained(recorded):
    model = load(recorded, num_labels=3, ignore_mismatched_sizes=True)
    assert model.untrained_weights == ["classifier.bias", "classifier.weight"]
    with pytest.raises(ValueError, match="no trained weights"):
        model.refuse_untrained()
    adapter = adapted(model)
    with torch.no_grad():  # a head that is trained beside adapters is trained
        adapter.get_base_model().classifier.modules_to_save["default"].weight.add_(0.1)
    assert adapter.get_base_model().untrained_weights == []


def test_an_encoder_with_holes_embeds_nothing(recorded):
    """Weights that are missing from the middle are random, too."""
    weights = load_file(recorded / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    save_file({key: value for key, value in weights.items() if key != name}, recorded / "model.safetensors")
    model = AutoModel.from_pretrained(recorded)
    run = pipeline("eeg-embedding", model=model, feature_extractor=EXTRACTOR)
    with pytest.raises(ValueError, match="no trained weights for .*q_proj.weight of NeurIPTModel"):
        run(signal(["C3"]), channel_names=["C3"], **TOLD)


@pytest.mark.parametrize("fields", [{}, COMPACT])
def test_lobes_that_no_training_window_had(fields, tmp_path):
    """A new head has no weights for them: what lies there is named, and alone it is refused."""
    model = NeurIPTForSequenceClassification(small_config(**CONFIG, **fields))
    data = windows(names=("F3", "F4", "O1", "O2"), recording="r")
    trainer(model, tmp_path, data, save_strategy="no").train()
    assert model.groups_read.tolist() == [True, False, True, False, False]
    assert "gaps" not in model.training_record
    run, rows = classify(model, ("F3", "Pz"))
    assert len(rows) == 4
    assert any(step.startswith("not read by the model: Pz (") for step in run.reports[0].steps)
    with pytest.raises(ValueError, match="reads none of the good channels.*such as Cz, Pz.*lobes frontal, occipital"):
        classify(model, ("Cz", "Pz"))
    run, _ = classify(model, ("F3", "O1"))
    assert not any("not read" in step for step in run.reports[0].steps)
    trainer(model, tmp_path, windows(names=("P3", "P4")), save_strategy="no").train()  # what it knew stays
    assert model.groups_read.tolist() == [True, True, True, False, False]


# Heads of the user's own


def head_that_returns(make, name):
    def __init__(self, config: PreTrainedConfig):
        NeurIPTPreTrainedModel.__init__(self, config)
        self.neuript = NeurIPTModel(config)
        self.depth = nn.Linear(config.num_scales * config.num_pooling_groups * config.hidden_size, 1)
        self.post_init()

    def forward(self, input_values, electrode_positions=None, lobe_mask=None):
        outputs = self.neuript(input_values, electrode_positions, lobe_mask)
        return make(self.depth(outputs.pooler_output), outputs.last_hidden_state)

    return type(name, (NeurIPTPreTrainedModel,), {"__init__": __init__, "forward": forward})


RETURNS = {
    "Tensor": lambda depth, states: depth,
    "Tuple": lambda depth, states: (depth, (states, None)),
    "Dictionary": lambda depth, states: {"depth": depth, "states": [states, states]},
    "Output": lambda depth, states: BaseModelOutput(last_hidden_state=states),
}


@pytest.mark.parametrize("kind", RETURNS)
def test_a_head_of_ones_own(kind, tmp_path):
    """Saved, verified and loaded whatever its forward returns; verify notices one changed weight."""
    head_class = head_that_returns(RETURNS[kind], f"Depth{kind}")
    head = head_class(small_config(**CONFIG)).eval()
    save_checkpoint(head, EXTRACTOR, tmp_path)
    assert verify(tmp_path)["passed"]
    loaded = head_class.from_pretrained(tmp_path)
    assert loaded.training_record == {"stages": []} and loaded.untrained_weights == []
    assert f"`Depth{kind}`" in (tmp_path / "README.md").read_text()
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name in weights if name.endswith("v_proj.weight"))
    weights[name] = 2 * weights[name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert not verify(tmp_path)["passed"]


def test_a_head_that_needs_more_than_a_window_is_saved(tmp_path):
    """Without golden tensors; a class that nobody has defined is named."""
    head_class = head_that_returns(RETURNS["Tensor"], "DepthByAge")
    head_class.forward = lambda self, input_values, age: age
    save_checkpoint(head_class(small_config(**CONFIG)), EXTRACTOR, tmp_path)
    head_class.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no golden.safetensors"):
        verify(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["Elsewhere"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"input.input_values": torch.zeros(1)}, tmp_path / "golden.safetensors")
    with pytest.raises(ValueError, match="class Elsewhere is not known here.*define the class first"):
        verify(tmp_path)


def test_a_model_in_half_precision_is_verified(tmp_path):
    save_checkpoint(NeurIPTForSequenceClassification(small_config(**CONFIG)).bfloat16(), EXTRACTOR, tmp_path)
    assert verify(tmp_path)["passed"]


def test_saving_leaves_the_model_as_it_was(recorded):
    """Its mode, its configuration and its outputs."""
    model = load(recorded).train()
    model.save_pretrained(recorded)
    assert model.training and getattr(model.config, "custom_pipelines", None) is None
    model.eval()
    torch.testing.assert_close(model(**masked_batch()).logits, load(recorded)(**masked_batch()).logits)
