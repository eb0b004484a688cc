"""The labelled tasks of our own manifest, on which checkpoints are compared."""

import json
from pathlib import Path

from neuript_hf.data.tasks import TaskArguments


# Fields of `TaskArguments`, by the name of the task. Here each recording has all classes, or they were cut from one.
WITHIN_RECORDINGS = {
    "eyes": {"rows": ["set=epilepsy_gb"]},
    "ssvep": {"rows": ["set=ssvep_exo"], "events": ["13 Hz", "17 Hz", "21 Hz"], "window_seconds": 5.0},
    "listening": {"rows": ["set=dasps"]},
    "anxiety": {"rows": ["set=dasps"], "label_column": "group"},
    "pictures": {
        "rows": ["set=uci_alcohol"],
        "events": ["S1 obj=first", "S2 match=second", "S2 nomatch=second"],
        "window_seconds": 1.0,
    },
    "fists": {"rows": ["set=eegmmidb_mi", "task=left_vs_right_fist_imagery"], "events": ["T1=left", "T2=right"]},
    "feet": {"rows": ["set=eegmmidb_mi", "task=fists_vs_feet_imagery"], "events": ["T1=fists", "T2=feet"]},
}
# Here the class goes with the file or the person: what else differs between files, such as contact, also tells it.
BETWEEN_FILES = {
    "arithmetic": {"rows": ["set=eegmat"]},
    # two files for each person; the column `group` must not be used, the files of the groups differ technically
    "eyes_fsu": {"rows": ["set=alz_fsu"]},
    "epilepsy": {"rows": ["set=epilepsy_gb"], "label_column": "group"},
    "schizophrenia": {"rows": ["set=msu_schizo"], "label_column": "group"},
    "adhd": {"rows": ["set=adhd_children"], "label_column": "group"},
    # Trials of one second follow each other without gaps, so windows of a second are the trials.
    "alcoholism": {"rows": ["set=uci_alcohol"], "label_column": "group", "window_seconds": 1.0},
}
TASKS = WITHIN_RECORDINGS | BETWEEN_FILES
KINDS = {"classes within recordings": WITHIN_RECORDINGS, "classes between files or people": BETWEEN_FILES}
# These split each person's own runs: their scores say nothing about new people.
WITHIN_PERSON = {
    "p300": {
        "rows": ["set=muse_p300"],
        "events": ["non-target", "target"],
        "event_offset_seconds": -0.1,
        "window_seconds": 1.0,
    },
    "n170": {
        "rows": ["set=muse_n170"],
        "events": ["face", "house"],
        "event_offset_seconds": -0.1,
        "window_seconds": 1.0,
    },
    "imagery": {"rows": ["set=eegmmidb"], "events": ["T1=left", "T2=right"]},
}
# Written by told_tasks.py from folds over people of `train`.
TOLD = Path(__file__).with_name("results") / "tasks_told.json"


def manifest_task(name: str, data: str, **changes) -> TaskArguments:
    """
    A task of `TASKS` or `WITHIN_PERSON` with channels as recorded.

    Args:
        data: the manifest.
        changes: fields of `TaskArguments` to set differently.

    Raises:
        ValueError: for an unknown name.
    """
    if name in WITHIN_PERSON:
        fields = WITHIN_PERSON[name] | {"split_column": "within_split", "within_subject": True}
    elif name in TASKS:
        fields = TASKS[name]
    else:
        raise ValueError(f"A task must be one of {', '.join([*TASKS, *WITHIN_PERSON])}, but is {name!r}.")
    return TaskArguments(**{"data": data, "montage": "as_recorded", "window_seconds": 4.0} | fields | changes)


def untold_tasks() -> set[str]:
    """Tasks that no method tells, see told_tasks.py. They are reported and leave the means."""
    return {name for name, task in json.loads(TOLD.read_text())["tasks"].items() if not task["told"]}
