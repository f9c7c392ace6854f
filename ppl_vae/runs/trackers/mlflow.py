"""MLflow."""

import logging
from collections.abc import Mapping
from typing import ClassVar

from ppl_vae.runs.trackers import Tracked


class Mlflow:
    """A run of the store and the experiment that MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME name.

    A run that goes on is the same run there.
    """

    name: ClassVar[str] = "mlflow"
    needs: ClassVar[str] = "mlflow"

    def __init__(self, about: Tracked) -> None:
        import mlflow

        if about.quiet:
            logging.getLogger("mlflow").setLevel(logging.WARNING)
            logging.getLogger("alembic").setLevel(logging.WARNING)
        nested = mlflow.active_run() is not None  # of the user's own
        self.id: str = mlflow.start_run(about.id, run_name=about.folder.name, nested=nested).info.run_id
        told = mlflow.MlflowClient().get_metric_history(self.id, "epoch")  # of a run that goes on
        self.seen = max((point.step for point in told), default=-1)
        if about.id is None:
            mlflow.log_params(dict(about.config))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        import mlflow

        mlflow.log_metrics(dict(numbers), step=step, run_id=self.id)

    best = log

    def close(self, failed: bool) -> None:
        import mlflow

        mlflow.end_run("FAILED" if failed else "FINISHED")
