# The public names, listed once: __init__.py loads them from here when they are first used, editors read them here.
from .checkpoints.golden import verify as verify
from .checkpoints.saving import save_checkpoint as save_checkpoint
from .configuration_neuript import NeurIPTConfig as NeurIPTConfig
from .data.collator import DataCollatorForEEG as DataCollatorForEEG
from .data.preparation import prepare_dataset as prepare_dataset
from .data.shards import EEGShardDataset as EEGShardDataset
from .data.shards import stream_windows as stream_windows
from .data.windows import load_recordings as load_recordings
from .evaluation.evaluate import evaluate as evaluate
from .evaluation.metrics import EEGMetric as EEGMetric
from .evaluation.target_fits import start_from_fit as start_from_fit
from .feature_extraction_neuript import NeurIPTFeatureExtractor as NeurIPTFeatureExtractor
from .formats.files import open_recording as open_recording
from .modeling_neuript import NeurIPTForPreTraining as NeurIPTForPreTraining
from .modeling_neuript import NeurIPTForSequenceClassification as NeurIPTForSequenceClassification
from .modeling_neuript import NeurIPTModel as NeurIPTModel
from .pipeline_neuript import EEGPipeline as EEGPipeline
from .training.finetuning import FineTuningArguments as FineTuningArguments
from .training.finetuning import task_config as task_config
from .training.masking import DataCollatorForAmplitudeAwareMasking as DataCollatorForAmplitudeAwareMasking
from .training.trainer import NeurIPTTrainer as NeurIPTTrainer

__version__: str
