"""
The tests that transformers runs on its own models, on NeurIPT.

They are not part of the installed package: `fetch_common_tests.py` puts them into pytest's cache. Without them this
file is skipped.
"""

import functools
import sys
import tempfile
import unittest
from unittest import mock

import pytest
import torch
import transformers
from conftest import COMPACT, make_batch, small_config
from fetch_common_tests import CACHE
from torch import nn
from transformers import AutoModelForSequenceClassification, initialization
from transformers.models.auto import modeling_auto
from transformers.testing_utils import CaptureLogger

from neuript_hf import (
    NeurIPTConfig,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
)


if not CACHE.is_dir():
    reason = "python tests/fetch_common_tests.py fetches them, as `make test` does"
    pytest.skip(reason, allow_module_level=True)
sys.path.append(str(CACHE))

from transformers_common_tests.test_configuration_common import ConfigTester  # noqa: E402
from transformers_common_tests.test_feature_extraction_common import FeatureExtractionSavingTestMixin  # noqa: E402
from transformers_common_tests.test_modeling_common import ModelTesterMixin  # noqa: E402


# The common tests find out by these names which class is the encoder and which needs what labels; the Auto classes,
# where `neuript_hf` registers its own, are others.
modeling_auto.MODEL_MAPPING_NAMES["neuript"] = "NeurIPTModel"
modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES["neuript"] = "NeurIPTForPreTraining"
modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES["neuript"] = "NeurIPTForSequenceClassification"


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors as small as these gain nothing from threads, and lose much where others use the processor too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class NeurIPTModelTester:
    """What the common tests want to know about a model: a tiny configuration, inputs, sizes."""

    batch_size = 7  # what the longest test takes; it fills up smaller ones with integers, which a mask of lobes is not
    seq_length = 16
    is_training = True
    base_model_class = NeurIPTModel

    def __init__(self):
        config = self.get_config()
        self.hidden_size = config.hidden_size
        self.num_hidden_layers = config.num_hidden_layers
        self.num_attention_heads = config.num_attention_heads

    def get_config(self) -> NeurIPTConfig:
        # two layers, as the common tests demand; the second merges segments and has experts
        return small_config(num_hidden_layers=2, merge_sizes=[1, 4], num_experts=[0, 3], **COMPACT)

    def prepare_config_and_inputs_for_common(self) -> tuple[NeurIPTConfig, dict[str, torch.Tensor]]:
        return self.get_config(), make_batch(windows=self.batch_size, samples=self.seq_length)


@pytest.mark.slow
class NeurIPTModelTest(ModelTesterMixin, unittest.TestCase):
    """`ModelTesterMixin` on the three models."""

    all_model_classes = (NeurIPTModel, NeurIPTForPreTraining, NeurIPTForSequenceClassification)
    # A few tests take only the main input of a batch and what stands here.
    additional_model_inputs = ["electrode_positions", "lobe_mask"]
    # There is no vocabulary: a token is a linear function of a sample.
    test_resize_embeddings = False
    # By the copyright year of its file a model is old and exempt; this one has no such line and isn't.
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self):
        super().setUp()
        self.model_tester = NeurIPTModelTester()
        self.config_tester = ConfigTester(self, config_class=NeurIPTConfig, has_text_modality=False)
        if "eager_matches" in self._testMethodName:
            # The paper's initial weights amplify rounding, eager attention's like sdpa's: in bfloat16 to a tenth of
            # the output, in float32 to the edge of the tolerance, which is made for small weights such as these.
            small = functools.partial(initialization.normal_, std=0.02)
            for name in ("kaiming_normal_", "normal_"):  # the experts' are drawn by the latter
                patch = mock.patch.object(initialization, name, lambda weight, *_, **__: small(weight))
                patch.start()
                self.addCleanup(patch.stop)

    def test_config(self):
        self.config_tester.run_common_tests()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        # Pre-training always hides something, and the common tests know no labels that are a signal.
        if model_class is NeurIPTForPreTraining:
            masked = inputs["input_values"] > 0.5
            inputs |= {"masked_positions": masked, "hidden_positions": masked}
            if return_labels:
                inputs["labels"] = inputs["input_values"].clone()
        return inputs

    def test_attention_outputs(self):
        """Theirs wants one attention for each layer; a layer of NeurIPT has two, along time and across channels."""
        config, inputs_dict = self.model_tester.prepare_config_and_inputs_for_common()
        windows, channels, samples = inputs_dict["input_values"].shape
        heads = config.num_attention_heads
        expected, segments = [], samples
        for size in config.merge_sizes:
            segments = -(-segments // size)
            expected.append((windows * channels, heads, segments, segments))
            expected.append((windows * segments, heads, channels, channels))
        for model_class in self.all_model_classes:
            inputs = self._prepare_for_class(inputs_dict, model_class)
            model = model_class._from_config(self.model_tester.get_config(), attn_implementation="eager").eval()
            outputs = model(**inputs, output_attentions=True)
            self.assertEqual([tuple(attention.shape) for attention in outputs.attentions], expected)
            for attention in outputs.attentions:
                torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
            without = model(**inputs)
            self.assertIsNone(without.attentions)
            self.assertEqual(len(outputs), len(without) + 1)
            model.config.output_attentions = True
            self.assertEqual(len(model(**inputs).attentions), len(expected))

    def test_model_get_set_embeddings(self):
        """Theirs wants an `nn.Embedding`; the layer that makes tokens of samples is an `nn.Linear`."""
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            self.assertIs(model.get_input_embeddings(), model.base_model.embeddings.token)
            layer = nn.Linear(1, model.config.hidden_size)
            model.set_input_embeddings(layer)
            self.assertIs(model.get_input_embeddings(), layer)
            self.assertIs(model.base_model.embeddings.token, layer)
            self.assertIsNone(model.get_output_embeddings())

    def test_load_with_mismatched_shapes(self):
        """Theirs changes the number of labels and the vocabulary; here the number of labels and a layer's width."""
        config, inputs_dict = self.model_tester.prepare_config_and_inputs_for_common()
        with tempfile.TemporaryDirectory() as folder:
            NeurIPTForSequenceClassification(config).save_pretrained(folder)
            for change in ({"num_labels": 42}, {"intermediate_size": 40}):
                with self.assertRaises(RuntimeError):
                    AutoModelForSequenceClassification.from_pretrained(folder, **change)
                with CaptureLogger(transformers.logging.get_logger("transformers.modeling_utils")) as captured:
                    model = AutoModelForSequenceClassification.from_pretrained(
                        folder, **change, ignore_mismatched_sizes=True
                    )
                self.assertIn("Reinit due to size mismatch", captured.out)
                logits = model(**inputs_dict).logits
                self.assertEqual(logits.shape[1], change.get("num_labels", config.num_labels))
                self.assertTrue(logits.isfinite().all())


class NeurIPTFeatureExtractionTest(FeatureExtractionSavingTestMixin, unittest.TestCase):
    """`FeatureExtractionSavingTestMixin`, with no argument at its default."""

    feature_extraction_class = NeurIPTFeatureExtractor
    feat_extract_dict = {
        "montage": ["C3", "Cz-C4"],
        "sampling_rate": 100,
        "l_freq": 0.5,
        "h_freq": 40.0,
        "notch_freq": 50.0,
        "companding": None,
        "companding_a": 0.5,
        "coordinate_frame": "montage",
        "on_missing": "interpolate",
        "window_seconds": 2.0,
    }
