"""Means and intervals over people of what tables say of windows."""

import numpy as np
import pandas as pd
from transformers.utils import logging

from ..evaluation.metrics import draw_people, percentile_interval
from .windows import ABOUT


logger = logging.get_logger(__name__)


def summarise(table: pd.DataFrame, by_target: bool = False) -> pd.DataFrame:
    """
    The mean over people, each of whom counts the same whatever the number of their windows, with a 95 % interval: how
    it might have come out with other people from the same population ([`draw_people`]).

    Args:
        table: of [`occlusion`], [`integrated_gradients`], [`attention`] or [`participation`].
        by_target: apart for each target, such as each class; else over all windows of a person.

    Returns:
        A row for each part, in the order of the table: the columns that say what it is, `value`, `low` and `high`
        (the interval), `people` and, of tables with windows, `windows`. With one person, or where nothing says who is
        who, there is no interval: `low` and `high` are NaN, and a warning says so.
    """
    left_out = {*ABOUT, "value"} | (set() if by_target else {"target"})
    keys = [column for column in table.columns if column not in left_out]
    part = table.groupby(keys, sort=False, dropna=False).ngroup()  # numbers in the order of the table
    means = table["value"].groupby([part, table["person"]]).mean().unstack()
    summary = table.loc[~part.duplicated(), keys].reset_index(drop=True)
    people = sorted(means.columns)
    values = means[people].to_numpy()
    there = ~np.isnan(values)
    summary["value"] = np.nanmean(values, axis=1)
    summary["low"], summary["high"] = np.nan, np.nan
    if len(people) > 1:
        times = draw_people(people)
        with np.errstate(invalid="ignore"):  # draws without a person who has the part
            draws = (times @ np.where(there, values, 0).T) / (times @ there.T)
        several = there.sum(axis=1) > 1
        intervals = [percentile_interval(column[~np.isnan(column)]) for column in draws.T[several]]
        summary.loc[several, ["low", "high"]] = np.array(intervals).reshape(-1, 2)
    else:
        who = "a single person" if people[0] else "people whom nothing tells apart"
        logger.warning(f"The windows are of {who}, so there is no interval over people.")
    summary["people"] = there.sum(axis=1)
    if "onset" in table:
        window = table.groupby(ABOUT, dropna=False).ngroup()
        summary["windows"] = window.groupby(part).nunique().to_numpy()
    return summary


__all__ = ["summarise"]
