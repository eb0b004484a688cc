"""NeurIPT for Hugging Face: an EEG foundation model (arXiv 2510.16548), from recording to answer."""

import lazy_loader
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_neuript import NeurIPTConfig
from .feature_extraction_neuript import NeurIPTFeatureExtractor
from .modeling_neuript import NeurIPTForPreTraining, NeurIPTForSequenceClassification, NeurIPTModel
from .pipeline_neuript import EEGPipeline


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

# __init__.pyi lists the public names. What registration does not need is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
