"""NeurIPT for Hugging Face: an EEG foundation model (arXiv 2510.16548), from recording to answer."""

import lazy_loader
import transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification
from transformers.pipelines import PIPELINE_REGISTRY

from . import modeling_neuript
from .configuration_neuript import MODEL_CLASSES, NeurIPTConfig
from .feature_extraction_neuript import NeurIPTFeatureExtractor
from .pipeline_neuript import EEGPipeline


__version__ = "0.1.0"

AutoConfig.register("neuript", NeurIPTConfig)
AutoFeatureExtractor.register(NeurIPTConfig, NeurIPTFeatureExtractor)
PIPELINE_REGISTRY.register_pipeline("eeg-embedding", EEGPipeline, pt_model=AutoModel)
PIPELINE_REGISTRY.register_pipeline("eeg-classification", EEGPipeline, pt_model=AutoModelForSequenceClassification)

# register_for_auto_class lets the code files travel, for AutoModel.from_pretrained(folder, trust_remote_code=True).
for auto_class, model_class in MODEL_CLASSES.items():
    getattr(transformers, auto_class).register(NeurIPTConfig, getattr(modeling_neuript, model_class))
    getattr(modeling_neuript, model_class).register_for_auto_class(auto_class)
NeurIPTConfig.register_for_auto_class()
NeurIPTFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")

# __init__.pyi lists the public names. What registration does not need is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
