"""Reading a sweep's folder, grouping by what varied, mean and standard deviation over seeds: known answers."""

import json
from pathlib import Path

import pytest
import yaml

from anomap.errors import UserError
from anomap.runs.jobs import ERROR, UNSET, Job, as_number, natural, parse_overrides, read_jobs
from anomap.runs.sweeps import Summary, others, summarise, tabulate


def write_job(sweep: Path, name: str, *overrides: str, error: str = "", **metrics: float | str | None) -> Path:
    """A job's folder as `anomap-train -m` leaves it: finished with these metrics, failed, or neither."""
    folder = sweep / name
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    if metrics:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    if error:
        (folder / ERROR).write_text(error)
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two models at two sizes with three seeds each, one failed, one unfinished."""
    for model, offset in (("a", 0.0), ("b", 0.1)):
        for size in (32, 128):
            for seed in range(3):
                overrides = ["data=folder", f"model={model}", f"data.image_size={size}", f"seed={seed}"]
                name = f"{model}-{size}-{seed}"
                if name == "b-128-2":
                    write_job(tmp_path, name, *overrides, error="Traceback\n  line\n\nValueError: lost\n")
                elif name == "b-128-1":
                    write_job(tmp_path, name, *overrides)
                else:
                    value = 0.5 + offset + size / 1000 + (0.01, 0.02, 0.06)[seed]
                    write_job(tmp_path, name, *overrides, image_auroc=value, train_seconds=10 * seed, seed=seed)
    return tmp_path


def test_mean_and_sample_standard_deviation() -> None:
    assert summarise([1.0, 2.0, None, 6.0]) == Summary(3.0, 7**0.5, 3)
    assert summarise([0.25]) == Summary(0.25, None, 1)
    assert summarise([None]) is None
    assert summarise([]) is None


def test_jobs_are_grouped_by_what_varied_except_the_seed(sweep: Path) -> None:
    table = tabulate(read_jobs([sweep]))
    assert table.keys == ("model", "data.image_size")
    assert table.common == {"data": "folder"}
    assert table.metrics == ("image_auroc", "train_seconds")  # the others exist nowhere
    assert [row.settings for row in table.rows] == [("a", "32"), ("a", "128"), ("b", "32"), ("b", "128")]
    assert [row.n for row in table.rows] == [3, 3, 3, 1]
    first, last = table.rows[0].values["image_auroc"], table.rows[-1].values["image_auroc"]
    assert (first.mean, first.n) == (pytest.approx(0.562), 3)
    assert first.sd == pytest.approx(((0.02**2 + 0.01**2 + 0.03**2) / 2) ** 0.5)  # of 0.01, 0.02, 0.06
    assert (last.mean, last.sd, last.n) == (pytest.approx(0.738), None, 1)
    assert table.means == ()


def test_what_did_not_finish_is_named_with_its_reason(sweep: Path) -> None:
    (sweep / "a-32-0" / "metrics.json").write_text("{broken")
    reasons = {job.name: job.problem for job in tabulate(read_jobs([sweep])).problems}
    assert reasons.keys() == {"a-32-0", "b-128-1", "b-128-2"}
    assert reasons["b-128-1"].startswith("unfinished")
    assert reasons["b-128-2"] == "failed: ValueError: lost"
    assert "not a JSON file" in reasons["a-32-0"]


def test_a_mean_over_keys_takes_each_seed_first_and_only_whole_sets(tmp_path: Path) -> None:
    values = {("0", 0): 0.2, ("1", 0): 0.4, ("0", 1): 0.6, ("1", 1): 1.0, ("0", 2): 0.9}  # class 1 of seed 2 is missing
    for (kind, seed), value in values.items():
        write_job(tmp_path, f"{kind}-{seed}", f"data.normal_class={kind}", f"seed={seed}", image_auroc=value)
    jobs = read_jobs([tmp_path])
    (row,) = tabulate(jobs, over=["data.normal_class"]).means
    assert row.settings == ("mean",)
    assert row.n == 2
    found = row.values["image_auroc"]
    assert (found.mean, found.n) == (pytest.approx(0.55), 2)  # of 0.3 and 0.8
    assert found.sd == pytest.approx((2 * 0.25**2) ** 0.5)
    assert row.note == "mean over data.normal_class; without seed 2: no 1"


def test_by_averages_over_the_other_keys(sweep: Path) -> None:
    jobs = read_jobs([sweep])
    assert others(jobs, ["model"]) == ["data.image_size"]
    table = tabulate(jobs, over=others(jobs, ["model"]))
    a, b = table.means
    assert (a.settings, a.n) == (("a", "mean"), 3)
    assert a.values["image_auroc"].mean == pytest.approx(0.5 + 0.08 + 0.03)
    assert (b.settings, b.n) == (("b", "mean"), 1)
    assert "without seed 1, 2: no 128" in b.note
    with pytest.raises(UserError, match="no job overrides it"):
        others(jobs, ["modell"])
    with pytest.raises(UserError, match="nothing else varied"):
        others(jobs, ["model", "data.image_size"])
    with pytest.raises(UserError, match="seed did not vary"):
        tabulate(jobs, over=["seed"])


def test_the_same_settings_and_seed_are_one_sample(tmp_path: Path) -> None:
    for part in ("first", "second"):
        for seed in (0, 1):
            write_job(tmp_path / part, f"seed={seed}", "model=a", f"seed={seed}", image_auroc=0.5 + seed / 10)
    write_job(tmp_path / "second", "seed=2", "model=a", "seed=2", image_auroc=0.9)
    for sweeps in ([tmp_path], [tmp_path / "first", tmp_path / "second"]):
        table = tabulate(read_jobs(sweeps))
        (row,) = table.rows
        assert row.settings == ()
        assert row.values["image_auroc"].n == 3
        assert [job.problem for job in table.problems] == [
            f"not counted: same settings and seed as first/seed={seed}" for seed in (0, 1)
        ]
    assert len(read_jobs([tmp_path, tmp_path / "first"])) == 5  # the same folder twice is one job


def test_a_job_without_the_key_has_its_default(tmp_path: Path) -> None:
    write_job(tmp_path, "x", image_auroc=0.1, seed=0)
    write_job(tmp_path, "y", "+model.width=8", image_auroc=0.2, seed=0)
    table = tabulate(read_jobs([tmp_path]))
    assert table.keys == ("model.width",)
    assert [row.settings for row in table.rows] == [("8",), (UNSET,)]


def test_a_job_whose_overrides_are_lost_stands_for_itself(tmp_path: Path) -> None:
    for name in "xy":
        folder = write_job(tmp_path, name, image_auroc=0.1, seed=0)
        (folder / ".hydra" / "overrides.yaml").unlink()
    assert [row.settings for row in tabulate(read_jobs([tmp_path])).rows] == [("x",), ("y",)]


def test_metrics_can_be_chosen_and_controls_come_by_themselves(tmp_path: Path) -> None:
    write_job(tmp_path, "x", image_auroc=0.1, control_pca_auroc=0.2, pixel_auroc=None, n_train=5, model="a")
    jobs = read_jobs([tmp_path])
    assert tabulate(jobs).metrics == ("image_auroc", "control_pca_auroc")
    assert tabulate(jobs, ["n_train"]).metrics == ("n_train",)
    for name in ("nothing", "model", "pixel_auroc"):
        with pytest.raises(UserError, match=f"--metrics {name}: .*image_auroc"):
            tabulate(jobs, [name])


def test_nothing_to_read_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, message in (("nowhere", "no such folder"), ("file", "no such folder"), (".", "no job inside")):
        with pytest.raises(UserError, match=message):
            read_jobs([tmp_path / path])


def test_overrides_are_read_as_they_were_typed() -> None:
    lines = ["model=a", "+data.x='a = b'", "++y=[1,2]", "seed=1", "seed=2", "~z"]
    assert parse_overrides(lines) == {"model": "a", "data.x": "a = b", "y": "[1,2]", "seed": "2", "~z": ""}


def test_numbers_sort_by_size_and_before_words() -> None:
    assert sorted(["b", "128", "1e-3", "nan", "32", "a"], key=natural) == ["1e-3", "32", "128", "a", "b", "nan"]
    assert as_number("inf") is None


def test_a_metric_that_is_text_is_no_number() -> None:
    assert Job("x", Path(), {}, "0", {"a": "text", "b": 1}).number("a") is None
