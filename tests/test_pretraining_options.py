"""Options of pre-training beyond the paper: departures from a line, the linear decoder, the course of a second."""

import pytest
import torch
from conftest import make_batch, make_window, masked_batch, small_config

from neuript_hf import DataCollatorForAmplitudeAwareMasking, NeurIPTForPreTraining
from neuript_hf.compact_embedding import BIN_SAMPLES, time_course
from neuript_hf.evaluation.imputation import fill_linear
from neuript_hf.training.monitoring import _look


PARTS = 4
SAMPLES = PARTS * BIN_SAMPLES


def test_a_course_of_steps_is_told_by_its_steps():
    steps = torch.tensor([1.0, -2.0, 3.0, 6.0])
    values = steps.repeat_interleave(BIN_SAMPLES).expand(2, 3, -1)
    course = time_course(values, None, PARTS)
    deviation = values[0, 0].std()
    torch.testing.assert_close(course, ((steps - 2) / deviation).expand(2, 3, -1))


def test_loudness_and_level_make_no_difference():
    values = torch.randn(2, 3, SAMPLES)
    torch.testing.assert_close(time_course(5 * values + 7, None, PARTS), time_course(values, None, PARTS))


def test_which_windows_have_a_course():
    values = torch.randn(3, 2, 2 * SAMPLES)
    segments = torch.arange(2 * SAMPLES) < torch.tensor([SAMPLES - 1, SAMPLES, 2 * SAMPLES])[:, None]
    known = time_course(values, segments, PARTS).isfinite().all(dim=-1)
    assert known.tolist() == [[False] * 2, [True] * 2, [True] * 2]
    assert time_course(values[..., : SAMPLES - 1], None, PARTS).isnan().all()
    flat = torch.cat([values[:1, :1, :SAMPLES], torch.ones(1, 1, SAMPLES)], dim=1)
    assert time_course(flat, None, PARTS).isfinite().all(dim=-1).tolist() == [[True, False]]


def test_what_is_padded_makes_no_difference():
    values = torch.randn(2, 3, SAMPLES + 4)
    padded = torch.nn.functional.pad(values, (0, 9), value=8.0)
    segments = (torch.arange(SAMPLES + 13) < SAMPLES + 4).expand(2, -1)
    torch.testing.assert_close(time_course(padded, segments, PARTS), time_course(values, None, PARTS))


def test_the_loss_is_that_of_real_channels():
    model = NeurIPTForPreTraining(small_config(time_course_bins=PARTS, time_course_loss_weight=0.25)).eval()
    batch = make_batch(windows=2, channels=5)
    labels = batch["input_values"]
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    output = model(**batch, channel_mask=mask, labels=labels)
    error = (output.time_course_logits - time_course(labels, None, PARTS)).square().mean(dim=-1)
    torch.testing.assert_close(output.time_course_loss, error[mask].mean())
    torch.testing.assert_close(output.loss, output.reconstruction_loss + 0.25 * output.time_course_loss)
    assert model(**batch).time_course_loss is None
    short = model(**make_batch(samples=SAMPLES - 1), labels=torch.randn(3, 5, SAMPLES - 1))
    assert short.time_course_loss == 0 and short.loss == short.reconstruction_loss


@pytest.mark.parametrize("decoder", [{}, {"decoder_size": 8}, {"decoder_type": "linear"}])
def test_predictions_are_departures_from_the_line_through_visible_samples(decoder):
    """A decoder that says nothing leaves the line; hidden values make no difference."""
    based = NeurIPTForPreTraining(small_config(hidden_fill="line", **decoder)).eval()
    batch = masked_batch(hidden=True)
    real = batch["channel_mask"][..., None] & batch["attention_mask"][:, None]
    visible = real & ~batch["hidden_positions"]
    line = fill_linear(batch["input_values"], visible)
    output = based(**batch)
    assert ((output.reconstruction - line)[real].abs() > 1e-4).any()
    changed = batch | {"input_values": torch.where(visible, batch["input_values"], 9.0)}
    torch.testing.assert_close(based(**changed).reconstruction[real], output.reconstruction[real])
    with torch.no_grad():
        for name, parameter in based.named_parameters():
            if name.startswith("decoder.") and ("prediction" in name or "readout" in name):
                parameter.zero_()
    torch.testing.assert_close(based(**batch).reconstruction, line)


@pytest.mark.parametrize("decoder", [{"decoder_size": 8}, {"decoder_type": "linear"}])
def test_the_monitor_sees_the_line_under_the_first_prediction(decoder):
    model = NeurIPTForPreTraining(small_config(hidden_fill="line", **decoder)).eval()
    batch = masked_batch(hidden=True)
    predictions = _look(model, batch).predictions
    assert len(predictions) == model.config.num_scales
    torch.testing.assert_close(predictions.sum(dim=0), model(**batch).reconstruction)


def test_a_linear_decoder_hears_of_other_channels():
    """A channel that is hidden all the time: [mask] vectors know nothing of the others, the encoder's tokens do."""
    batch = make_batch()
    hidden = torch.zeros(3, 5, 40, dtype=torch.bool)
    hidden[:, 0] = True
    changed = batch | {"input_values": batch["input_values"].clone()}
    changed["input_values"][:, 1, 20] += 5
    for decoder in ({"decoder_size": 8}, {"decoder_type": "linear"}):
        model = NeurIPTForPreTraining(small_config(**decoder)).eval()
        plain, other = (model(**windows, hidden_positions=hidden).reconstruction for windows in (batch, changed))
        assert (plain == other)[:, 0].all() == ("decoder_size" in decoder)


def test_a_linear_decoder_takes_each_sample_from_its_segment():
    """With one scale left, a sample's prediction depends on the state of its own segment alone."""
    model = NeurIPTForPreTraining(small_config(decoder_type="linear")).eval()
    layer = model.decoder[2]
    states = torch.randn(2, 3, 10, 16)
    assert layer(states, 38).shape == (2, 3, 38)
    changed = states.clone()
    changed[:, :, 4] += 1
    different = (layer(states, 38) != layer(changed, 38)).any(dim=1).any(dim=0)
    assert different.nonzero().flatten().tolist() == [16, 17, 18, 19]


def test_nothing_is_replaced_where_nothing_shall_be():
    batch = DataCollatorForAmplitudeAwareMasking(ratios=0.5, replaced_share=0.0)([make_window(channels=4)])
    assert torch.equal(batch["input_values"], batch["labels"])
    assert batch["hidden_positions"].sum(dim=-1).tolist() == [[26] * 4]  # 0.8 of 32, as with replaced ones
    with pytest.raises(ValueError, match=r"replaced_share must lie in \[0, 0.2\], but is 0.3"):
        DataCollatorForAmplitudeAwareMasking(replaced_share=0.3)
