"""NeurIPT for Hugging Face: an EEG foundation model (arXiv 2510.16548), from recording to answer."""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .checkpoints.saving import save_checkpoint, verify
from .configuration_neuript import NeurIPTConfig
from .data.collator import DataCollatorForEEG
from .data.preparation import prepare_dataset
from .data.shards import EEGShardDataset, stream_windows
from .data.windows import load_recordings
from .evaluation.metrics import EEGMetric
from .feature_extraction_neuript import NeurIPTFeatureExtractor
from .formats.files import open_recording
from .modeling_neuript import NeurIPTForPreTraining, NeurIPTForSequenceClassification, NeurIPTModel
from .pipeline_neuript import EEGPipeline
from .training.masking import DataCollatorForAmplitudeAwareMasking
from .training.trainer import NeurIPTTrainer


__version__ = "0.1.0"

AutoConfig.register("neuript", NeurIPTConfig)
AutoModel.register(NeurIPTConfig, NeurIPTModel)
AutoModelForPreTraining.register(NeurIPTConfig, NeurIPTForPreTraining)
AutoModelForSequenceClassification.register(NeurIPTConfig, NeurIPTForSequenceClassification)
AutoFeatureExtractor.register(NeurIPTConfig, NeurIPTFeatureExtractor)
PIPELINE_REGISTRY.register_pipeline("eeg-embedding", EEGPipeline, pt_model=AutoModel)
PIPELINE_REGISTRY.register_pipeline("eeg-classification", EEGPipeline, pt_model=AutoModelForSequenceClassification)

# With these the code files travel with the weights, for AutoModel.from_pretrained(folder, trust_remote_code=True).
NeurIPTConfig.register_for_auto_class()
NeurIPTModel.register_for_auto_class("AutoModel")
NeurIPTForPreTraining.register_for_auto_class("AutoModelForPreTraining")
NeurIPTForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
NeurIPTFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")

__all__ = [
    "DataCollatorForAmplitudeAwareMasking",
    "DataCollatorForEEG",
    "EEGMetric",
    "EEGPipeline",
    "EEGShardDataset",
    "NeurIPTConfig",
    "NeurIPTFeatureExtractor",
    "NeurIPTForPreTraining",
    "NeurIPTForSequenceClassification",
    "NeurIPTModel",
    "NeurIPTTrainer",
    "load_recordings",
    "open_recording",
    "prepare_dataset",
    "save_checkpoint",
    "stream_windows",
    "verify",
]
