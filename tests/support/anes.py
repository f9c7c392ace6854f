"""A real table as a person has it: texts, whole numbers, row numbers and missing cells. statsmodels' anes96."""

import numpy as np
import pandas as pd
import statsmodels.api as sm

EDUCATION = ("grades", "some high school", "high school", "some college", "technical", "college", "postgraduate")
PARTY = ("strong Dem", "weak Dem", "ind Dem", "independent", "ind Rep", "weak Rep", "strong Rep")
VOTE = ("Clinton", "Dole")


def anes(missing: float = 0.05, seed: int = 0) -> pd.DataFrame:
    """944 voters of 1996; a share of the cells is None."""
    codes = sm.datasets.anes96.load_pandas().data.astype(int)
    frame = codes[["popul", "TVnews", "selfLR", "age", "income"]].assign(
        party=[PARTY[code] for code in codes["PID"]],
        education=[EDUCATION[code - 1] for code in codes["educ"]],
        vote=[VOTE[code] for code in codes["vote"]],
    )
    gone = np.random.default_rng(seed).random(frame.shape) < missing
    frame = frame.astype(object).mask(gone, None)
    frame.insert(0, "id", range(1, len(frame) + 1))
    return frame
