import numpy as np
import pytest

from makespan.envs.llm.config import PredictorConfig
from makespan.envs.llm.predictor import predict
from makespan.traces.workload import Workload


def workload(outputs, classes=None):
    n = len(outputs)
    classes = np.zeros(n, int) if classes is None else np.array(classes)
    return Workload(np.arange(n), np.ones(n), outputs, slo_class=classes, slo_classes=("a", "b"))


def predicted(work, *args, **kwargs):
    return predict(work, PredictorConfig(*args, **kwargs), np.random.default_rng(0))


def test_none_predicts_nothing():
    assert np.isnan(predicted(workload([5, 6]), "none")).all()


def test_the_oracle_knows_and_errs_as_told():
    outputs = np.full(20_000, 100)
    assert predicted(workload(outputs), "oracle").tolist() == outputs.tolist()
    noise = np.log(predicted(workload(outputs), "oracle", error=0.3) / 100)
    assert noise.std() == pytest.approx(0.3, rel=0.03)
    assert noise.mean() == pytest.approx(0.0, abs=0.01)


def test_class_mean():
    work = workload([10, 20, 300], [0, 0, 1])
    assert predicted(work, "class_mean").tolist() == [15.0, 15.0, 300.0]


def test_buckets_are_right_as_often_as_told():
    outputs = np.random.default_rng(1).integers(1, 3000, 20_000)
    sure = predicted(workload(outputs), "bucket", accuracy=1.0)
    assert len(np.unique(sure)) == 3
    assert sure[outputs < 256] == pytest.approx(outputs[outputs < 256].mean())
    unsure = predicted(workload(outputs), "bucket", accuracy=0.7)
    assert (unsure == sure).mean() == pytest.approx(0.7, abs=0.01)


def test_a_single_bucket_cannot_be_missed():
    assert predicted(workload([10, 20]), "bucket", accuracy=0.0).tolist() == [15.0, 15.0]
