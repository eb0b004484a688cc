"""What each number of an embedding is called."""

from transformers import PreTrainedConfig

from ..compact_embedding import names_of_numbers
from ..electrodes import LOBES


def feature_names(config: PreTrainedConfig, output: str = "embedding") -> list[str]:
    """
    The names of a model's features, such as `"power, frontal, 8-10 Hz"` of a compact embedding and
    `"scale3_frontal_12"` of the pooled vector.

    Args:
        config: of the model.
        output: `"embedding"`, or `"pooler_output"`, which models without an embedding give in any case.
    """
    count = config.num_pooling_groups
    in_lobes = config.pooling == "lobes" and count == len(LOBES)
    groups = list(LOBES) if in_lobes else [f"group {number}" for number in range(count)]
    if output == "embedding" and config.compact_embedding:
        return names_of_numbers(config, groups)
    return [
        f"scale{scale}_{group.replace(' ', '_')}_{number}"
        for scale in config.head_scales
        for group in groups
        for number in range(config.hidden_size)
    ]


__all__ = ["feature_names"]
