"""
What a step of pre-training costs beside the model's own forward and backward pass: a line of a csv.

    python benchmarks/pretraining_step.py research/settings/tiny.yaml
    python benchmarks/pretraining_step.py research/settings/tiny.yaml --dataloader_num_workers 0

The trainer of `examples/pretrain.py` with its data, masks, targets and optimizer, without evaluations and checkpoints.
Whatever a step takes longer than its forward and backward pass is the optimizer, the log, and waiting for the data.
"""

import statistics
import sys
import time
from pathlib import Path

from measure import synchronize, write_rows
from transformers import TrainerCallback


sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from pretrain import make_trainer, parse_arguments  # noqa: E402  (programs, not a package)


WARM_UP, STEPS = 20, 200
NOTHING_ELSE = ["--eval_strategy", "no", "--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "true"]


class Ends(TrainerCallback):
    """When each step ended."""

    def __init__(self):
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        synchronize(args.device)
        self.times.append(time.perf_counter())


def main() -> None:
    steps = ["--max_steps", str(WARM_UP + STEPS), "--monitor_steps", str(2 * (WARM_UP + STEPS))]
    trainer = make_trainer(*parse_arguments([*sys.argv[1:], *NOTHING_ELSE, *steps]))
    ends, passes, step = Ends(), [], trainer.training_step

    def timed(*arguments, **options):
        start = time.perf_counter()
        loss = step(*arguments, **options)
        synchronize(trainer.args.device)
        passes.append(time.perf_counter() - start)
        return loss

    trainer.training_step = timed
    trainer.add_callback(ends)
    trainer.train()
    whole = [end - start for start, end in zip(ends.times[WARM_UP - 1 :], ends.times[WARM_UP:], strict=False)]
    own = passes[WARM_UP:]
    row = {
        "settings": Path(sys.argv[1]).stem,
        "windows_in_a_batch": trainer.args.train_batch_size,
        "workers": trainer.args.dataloader_num_workers,
        "steps": len(whole),
        "seconds_per_step": f"{statistics.mean(whole):.4f}",
        "forward_and_backward": f"{statistics.mean(own):.4f}",
        "ratio": f"{sum(whole) / sum(own):.3f}",
    }
    print(row)
    write_rows("pretraining_step", [row], trainer.args.device)


if __name__ == "__main__":
    main()
