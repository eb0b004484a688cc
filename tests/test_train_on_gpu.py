"""Pre-training by the clock, and its way to another machine and back: packed data sets, weights in pieces."""

import json
import subprocess
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pack_corpus
import pytest
import torch
import train_on_gpu
from conftest import small_config
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState

from neuript_hf import EEGShardDataset, NeurIPTFeatureExtractor, NeurIPTForPreTraining, save_checkpoint, verify
from neuript_hf.checkpoints.training_record import read_training_record
from neuript_hf.data.preparation import RejectionRules, prepare_dataset
from neuript_hf.data.simulation import simulate_dataset
from neuript_hf.training.optimization import one_cycle_schedule


@pytest.mark.slow
def test_packed_data_sets_come_back_and_train_by_the_clock(tmp_path, monkeypatch):
    manifest = simulate_dataset(tmp_path / "recordings", n_subjects=3, n_trials=4, channel_names=["C3", "Cz", "C4"])
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=3.0)
    rules = RejectionRules(min_recording_seconds=0, trim_seconds=0, max_microvolts=None, min_microvolts=None)
    prepare_dataset(manifest, extractor, tmp_path / "corpus/data", rules=rules)
    (tmp_path / "corpus/sets.csv").write_text("set,licence\n")
    pack_corpus.convert(tmp_path / "corpus", tmp_path / "packed")
    pack_corpus.convert(tmp_path / "packed", tmp_path / "back", unpack=True)

    files, packed, back = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "corpus", tmp_path / "packed", tmp_path / "back")
    )
    assert files.keys() == back.keys()
    assert all(back[name] == files[name] for name in files if name.suffix != ".safetensors")
    assert sum(map(len, packed.values())) < 0.6 * sum(map(len, files.values()))
    before, after = EEGShardDataset(tmp_path / "corpus/data"), EEGShardDataset(tmp_path / "back/data")
    assert len(before) == len(after) > 0 and before.recordings.equals(after.recordings)
    for one, other in zip(before, after, strict=True):
        change = extractor.invert(one.pop("input_values")) - extractor.invert(other.pop("input_values"))
        # half a step, and the rounding of two codes
        assert np.abs(change).max() < 0.55 * pack_corpus.STEP
        np.testing.assert_equal(other, one)

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "merge_sizes": [8, 1, 2, 1, 2, 1], "decoder_type": "linear"}
    options = {"data": tmp_path / "back/data", "output_dir": tmp_path / "run", "config": json.dumps(sizes)}
    options |= {"use_cpu": True, "per_device_train_batch_size": 1, "logging_steps": 1, "report_to": "none"}
    monkeypatch.setattr(train_on_gpu, "FIRST_STEPS", 2)  # a busy machine makes few
    monkeypatch.setattr(train_on_gpu, "BEGIN", train_on_gpu.perf_counter())
    train_on_gpu.train([str(word) for name, value in options.items() for word in (f"--{name}", value)], minutes=0.1)
    checkpoint = Path(train_on_gpu.last_checkpoint(tmp_path / "run"))
    (stage,) = read_training_record(checkpoint).stages
    log = json.loads((checkpoint / train_on_gpu.STATE).read_text())["log_history"]
    rates = [entry["learning_rate"] for entry in log if "learning_rate" in entry]
    assert stage.recipe["minutes"] == 0.1 and stage.steps == len(rates) > train_on_gpu.FIRST_STEPS
    assert max(rates) > 10 * rates[0] and 0 <= rates[-1] < 0.2 * max(rates)


def test_large_differences_and_what_is_too_large():
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    shard = {"0.codes": np.array([[[0, 32767, -32767, 5, 1000]]], dtype=np.int16), "0.scales": np.float32([2e-4])}
    packed = pack_corpus.pack_shard(pack_corpus.save(shard, {"recordings": "[]"}), extractor)
    back = pack_corpus.load(pack_corpus.unpack_shard(packed, extractor, "int16"))
    values = [extractor.invert(part["0.codes"] * part["0.scales"]) for part in (shard, back)]
    assert np.abs(values[0]).max() > 1000
    np.testing.assert_allclose(values[1], values[0], atol=0.55 * pack_corpus.STEP)
    shard["0.scales"] *= 2
    with pytest.raises(ValueError, match="Recording 0 reaches .* microvolts, too much to pack"):
        pack_corpus.pack_shard(pack_corpus.save(shard, {"recordings": "[]"}), extractor)


def test_a_cycle_by_the_clock(monkeypatch):
    """The rates are those of the cycle at the share of the time that has passed, however many steps there were."""
    now = 0.0
    monkeypatch.setattr(train_on_gpu, "perf_counter", lambda: now)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = one_cycle_schedule(optimizer, train_on_gpu.TICKS)
    clock, state, control = train_on_gpu.Clock(end=1100.0), TrainerState(), TrainerControl()
    wrapped = SimpleNamespace(scheduler=schedule)
    rates = {}
    while not control.should_training_stop:
        clock.on_step_begin(None, state, control, lr_scheduler=wrapped)
        optimizer.step()
        schedule.step()
        state.global_step += 1
        rates[round(clock.passed, 3)] = schedule.get_last_lr()[0]
        # the first steps take long, and do not count
        now += 10.0 if state.global_step <= train_on_gpu.FIRST_STEPS else 0.5 if now < 600 else 2.0
        clock.on_step_end(None, state, control)
        assert state.global_step < 2000
    assert 1100 <= now < 1103 and state.global_step > 1000
    wanted = one_cycle_schedule(torch.optim.SGD([weight], lr=1.0), 1001)
    wanted_rates = []
    for _ in range(1001):
        wanted_rates.append(wanted.get_last_lr()[0])
        wanted.optimizer.step()
        if len(wanted_rates) < 1001:
            wanted.step()
    for passed, rate in rates.items():
        assert abs(rate - wanted_rates[round(1000 * passed)]) < 0.02
    assert max(rates.values()) > 0.99 and rates[max(rates)] < 1e-3


def test_weights_in_pieces_become_a_checkpoint_again(tmp_path, monkeypatch):
    model = NeurIPTForPreTraining(small_config(num_labels=2))
    model.keep_record({"stages": [], "gaps": ["Nobody knows."]})
    folder = tmp_path / "base"
    with pytest.raises(FileNotFoundError, match="There are no weights"):
        train_on_gpu.cut(folder, tmp_path / "pieces")
    # as a run leaves it that was killed after a checkpoint
    save_checkpoint(model, NeurIPTFeatureExtractor(montage="as_recorded"), folder / "checkpoint-20")
    (folder / "checkpoint-20" / train_on_gpu.STATE).write_text('{"global_step": 20}')
    monkeypatch.setattr(train_on_gpu, "PIECE_BYTES", 100_000)
    train_on_gpu.cut(folder, tmp_path / "pieces")

    pieces = sorted((tmp_path / "pieces").glob("base.part-*"))
    sums = [f"{sha256(piece.read_bytes()).hexdigest()}  {piece.name}" for piece in pieces]
    assert len(pieces) > 1 and (tmp_path / "pieces/base.sha256").read_text().splitlines() == sums
    subprocess.run("cat pieces/base.part-* | tar x -C .", shell=True, check=True, cwd=tmp_path)
    train_on_gpu.complete(folder)
    weights = load_file(folder / train_on_gpu.WEIGHTS)
    for name, weight in load_file(folder / "checkpoint-20" / train_on_gpu.WEIGHTS).items():
        assert torch.equal(weights[name], weight.bfloat16()), name
    assert verify(folder)["passed"] and (folder / "README.md").exists()
    assert NeurIPTForPreTraining.from_pretrained(folder).training_record == model.training_record
