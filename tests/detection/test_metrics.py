"""Image metrics against scikit-learn and known answers, on raw scores far outside [0, 1]."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from anomap.detection.metrics import (
    auroc,
    auroc_interval,
    average_precision,
    image_metrics,
    oracle_f1_threshold,
    threshold_grid,
    threshold_table,
)

# Few distinct scores, so that ties are common; offsets that a sigmoid or float32 would crush.
_SCORES = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40)
_BOTH = _SCORES.filter(lambda pairs: len({label for _, label in pairs}) == 2)


def _f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    return float(f1_score(labels, predicted, zero_division=0))  # type: ignore[arg-type]


def _split(pairs: list[tuple[int, bool]], offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = zip(*pairs, strict=True)
    return np.array(scores, np.float64) + offset, np.array(labels, np.int64)


@given(pairs=_BOTH, offset=st.sampled_from([0, -50, 1e9]))
def test_areas_equal_scikit_learn(pairs: list[tuple[int, bool]], offset: float) -> None:
    scores, labels = _split(pairs, offset)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = average_precision_score(labels, scores)
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


@given(pairs=_SCORES)
def test_ranks_are_all_that_counts(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = _split(pairs)
    assert auroc(np.expm1(scores) * 1e6, labels) == auroc(scores, labels)
    assert average_precision(np.expm1(scores) * 1e6, labels) == average_precision(scores, labels)


def test_a_perfect_ranking_far_from_the_unit_interval_is_perfect() -> None:
    metrics = image_metrics([18.0, 18.5, 20.0, 21.0], [0, 0, 1, 1], threshold=18.5)
    assert metrics == {
        "image_auroc": 1.0,
        "image_ap": 1.0,
        "image_f1": 1.0,
        "test_fpr": 0.0,  # 18.5 is not above 18.5
        "test_tpr": 1.0,
        "n_test_normal": 2,
        "n_test_abnormal": 2,
    }


def test_a_worse_than_chance_ranking_is_not_flipped() -> None:
    assert auroc([3.0, 2.0, 1.0, 0.0], [0, 0, 1, 1]) == 0.0


def test_differences_below_float32_still_rank() -> None:
    assert auroc([1.0, 1.0 + 1e-12], [0, 1]) == 1.0


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_out_what_needs_two(label: int) -> None:
    metrics = image_metrics([1.0, 2.0], [label, label], threshold=1.5)
    assert metrics["image_auroc"] is metrics["image_ap"] is metrics["image_f1"] is None
    assert metrics["test_fpr"] == (None if label else 0.5)
    assert metrics["test_tpr"] == (0.5 if label else None)
    assert auroc_interval([1.0, 2.0], [label, label]) is None


def test_an_empty_test_set_has_counts_and_nothing_else() -> None:
    metrics = image_metrics([], [], threshold=0.0)
    known = {key for key, value in metrics.items() if value is not None}
    assert known == {"n_test_normal", "n_test_abnormal"}


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, np.nan], [0, 1], "1 of 2 anomaly scores are not finite"),
        ([1.0, np.inf], [0, 1], "not finite"),
        ([1.0, 2.0], [0, 2], "labels"),
        ([1.0, 2.0], [0], r"\(N,\)"),
        ([[1.0], [2.0]], [[0], [1]], r"\(N,\)"),
    ],
)
def test_impossible_input_is_refused(scores: list, labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_metrics(scores, labels, 0.0)


@given(pairs=_BOTH, threshold=st.integers(-1, 7))
def test_threshold_table_equals_counting(pairs: list[tuple[int, bool]], threshold: int) -> None:
    scores, labels = _split(pairs)
    predicted = scores > threshold
    (row,) = threshold_table(scores, labels, [threshold])
    assert row["fpr"] == predicted[labels == 0].mean()
    assert row["tpr"] == row["accuracy_abnormal"] == predicted[labels == 1].mean()
    assert row["accuracy_normal"] == pytest.approx((~predicted)[labels == 0].mean())
    assert row["f1"] == pytest.approx(_f1(labels, predicted))


def test_threshold_table_keeps_the_given_order() -> None:
    table = threshold_table([0.0, 1.0], [0, 1], [2.0, 0.5, -1.0])
    assert [row["threshold"] for row in table] == [2.0, 0.5, -1.0]
    assert [row["f1"] for row in table] == [0.0, 1.0, pytest.approx(2 / 3)]


def test_threshold_table_by_hand() -> None:
    (row,) = threshold_table([1.0, 2.0, 3.0, 4.0, 5.0], [0, 0, 0, 1, 1], [2.0])
    assert row == {
        "threshold": 2.0,
        "accuracy_normal": pytest.approx(2 / 3),  # 2.0 is not above 2.0
        "accuracy_abnormal": 1.0,
        "f1": pytest.approx(4 / 5),
        "fpr": pytest.approx(1 / 3),
        "tpr": 1.0,
    }


def test_threshold_table_of_one_class() -> None:
    (row,) = threshold_table([1.0, 2.0], [0, 0], [1.5])
    assert row == {
        "threshold": 1.5,
        "accuracy_normal": 0.5,
        "accuracy_abnormal": None,
        "f1": None,
        "fpr": 0.5,
        "tpr": None,
    }


def test_threshold_grid_spans_the_scores_and_holds_the_chosen_one() -> None:
    scores = np.arange(101.0)[::-1]
    assert threshold_grid(scores, chosen=33.3, count=5).tolist() == [0.0, 25.0, 33.3, 50.0, 75.0, 100.0]
    assert threshold_grid(scores, chosen=50.0, count=5).tolist() == [0.0, 25.0, 50.0, 75.0, 100.0]
    assert threshold_grid([7.0], chosen=9.0).tolist() == [7.0, 9.0]
    assert len(threshold_grid(scores, chosen=-1.0)) == 51


@given(pairs=_BOTH, offset=st.sampled_from([0.0, 1e9, -1e300]))
def test_oracle_is_not_beaten_by_any_threshold(pairs: list[tuple[int, bool]], offset: float) -> None:
    scores, labels = _split(pairs)
    scores = scores + offset

    def f1(threshold: float) -> float:
        predicted = scores > threshold
        return 2 * float((predicted & (labels == 1)).sum()) / float(predicted.sum() + labels.sum())

    candidates = [*scores, np.nextafter(scores.min(), -np.inf)]
    assert f1(oracle_f1_threshold(scores, labels)) == pytest.approx(max(map(f1, candidates)))


def test_oracle_lies_between_separated_classes_and_needs_abnormals() -> None:
    assert oracle_f1_threshold([1.0, 2.0, 4.0], [0, 0, 1]) == 3.0
    with pytest.raises(ValueError, match="abnormal"):
        oracle_f1_threshold([1.0], [0])


def test_interval_covers_the_true_area_about_as_often_as_it_says() -> None:
    truth, inside = 0.7602, 0  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    generator = np.random.default_rng(7)
    labels = np.repeat([0, 1], 60)
    for trial in range(100):
        scores = generator.normal(labels)
        interval = auroc_interval(scores, labels, replicates=200, confidence=0.9, seed=trial)
        assert interval is not None
        inside += interval.low <= truth <= interval.high
    assert 80 <= inside <= 98


def test_interval_is_seeded_and_no_point_on_perfect_separation() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    scores = generator.normal(labels)
    assert auroc_interval(scores, labels, seed=1) == auroc_interval(scores, labels, seed=1)
    assert auroc_interval(scores, labels, seed=1) != auroc_interval(scores, labels, seed=2)
    few, many = auroc_interval([0.0, 1.0] * 10, [0, 1] * 10), auroc_interval(labels, labels)
    assert few is not None
    assert many is not None
    assert few.high == many.high == 1.0
    assert 0.7 < few.low < 0.95 < many.low < 0.99


def test_threshold_grid_without_scores_is_the_chosen_one() -> None:
    assert threshold_grid([], chosen=2.0).tolist() == [2.0]
