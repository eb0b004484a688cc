"""The labelled tasks of our own manifest, on which checkpoints are compared."""

from neuript_hf.data.tasks import TaskArguments


# Fields of `TaskArguments`, by the name of the task.
TASKS = {
    "arithmetic": {"rows": ["set=eegmat"]},
    "eyes": {"rows": ["set=epilepsy_gb"]},
    "epilepsy": {"rows": ["set=epilepsy_gb"], "label_column": "group"},
    "ssvep": {"rows": ["set=ssvep_exo"], "events": ["13 Hz", "17 Hz", "21 Hz"], "window_seconds": 5.0},
    "listening": {"rows": ["set=dasps"]},
    "anxiety": {"rows": ["set=dasps"], "label_column": "group"},
    "pictures": {
        "rows": ["set=uci_alcohol"],
        "events": ["S1 obj=first", "S2 match=second", "S2 nomatch=second"],
        "window_seconds": 1.0,
    },
    # Trials of one second follow each other without gaps, so windows of a second are the trials.
    "alcoholism": {"rows": ["set=uci_alcohol"], "label_column": "group", "window_seconds": 1.0},
}
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
