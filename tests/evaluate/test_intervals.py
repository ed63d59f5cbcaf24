import math

import numpy as np
import pytest
from scipy.stats import beta, bootstrap, norm

from foveal import metrics
from foveal.evaluate.curves import resampled_areas
from foveal.evaluate.intervals import Resampling


def simulated_coverage(by_group, trials=400, groups=60, size=6):
    """Share of 95 % intervals of the accuracy that hold the true value, images of a group being alike."""
    random = np.random.default_rng(1)
    skill = random.beta(4, 2, size=(trials, groups, 1))  # mean 2/3
    right = random.random((trials, groups, size)) < skill
    images = np.arange(groups * size)
    resampling = Resampling(images // size if by_group else images, 300)
    entries = [resampling.mean(one.ravel()) for one in right]
    return np.mean([entry["low"] <= 2 / 3 <= entry["high"] for entry in entries])


def percentiles(drawn):
    return np.quantile(drawn, (0.025, 0.975))


def test_intervals_by_group_cover_and_intervals_by_image_do_not():
    assert simulated_coverage(by_group=True) == pytest.approx(0.95, abs=0.03)
    assert simulated_coverage(by_group=False) < 0.9


def graded_patients(random, patients):
    """Five classes, two alike images per patient; the truth is that of a very large sample of the same."""
    labels = np.repeat(random.choice(5, patients, p=(0.5, 0.1, 0.25, 0.1, 0.05)), 2)
    latent = labels + np.repeat(random.normal(0, 0.7, patients), 2) + random.normal(0, 0.5, 2 * patients)
    return labels, np.clip(latent.round(), 0, 4).astype(int), latent


FROM_CONFUSION = (metrics.accuracy, metrics.quadratic_kappa, metrics.macro_f1, metrics.mean_absolute_error)


def figures(labels, grades, latent):
    table = metrics.confusion_matrix(labels, grades, 5)
    areas = [metrics.area_under_curve(latent, labels >= cut) for cut in (2, 3)]
    return np.array([*(float(metric(table)) for metric in FROM_CONFUSION), *areas])


def resampled_figures(labels, grades, latent, resampling):
    drawn = resampling.confusions(labels, grades, 5)
    areas = [resampled_areas(latent, labels >= cut, resampling)[0] for cut in (2, 3)]
    return [*(metric(drawn) for metric in FROM_CONFUSION), *areas]


@pytest.mark.slow
def test_intervals_of_the_headline_figures_hold_the_truth_95_times_in_100():
    random, patients, trials = np.random.default_rng(0), 150, 1000
    truth, held = figures(*graded_patients(random, 500_000)), [[] for _ in range(len(FROM_CONFUSION) + 2)]
    for trial in range(trials):
        drawn = graded_patients(random, patients)
        resampling = Resampling(np.arange(2 * patients) // 2, 500, seed=trial)
        everything = zip(held, truth, figures(*drawn), resampled_figures(*drawn, resampling), strict=True)
        for own, true, value, resampled in everything:
            low, high = resampling.interval(value, resampled)
            own.append(low <= true <= high)
    assert [float(np.mean(own)) for own in held] == pytest.approx([0.95] * len(held), abs=0.02)


def test_the_interval_is_that_of_scipy_but_for_the_few_groups():
    """scipy's BCa takes the acceleration from the jackknife, ours from the resamples; Student's t adds 1 % here."""
    values = np.random.default_rng(0).exponential(size=200)
    resampling = Resampling(np.arange(200), 5000, seed=1)
    low, high = resampling.interval(values.mean(), resampling.sums(values[:, None])[:, 0] / 200)
    expected = bootstrap((values,), np.mean, n_resamples=5000, random_state=0).confidence_interval
    assert (low, high) == pytest.approx(tuple(expected), abs=0.015)
    plain = percentiles(resampling.sums(values[:, None])[:, 0] / 200)
    assert low > plain[0] and high > plain[1] + 0.005, "skewed to the right, so it lies further right"


def test_few_groups_have_wider_intervals():
    random = np.random.default_rng(0)
    for groups, wider in ((5, 1.3), (20, 1.05)):
        values = random.normal(size=groups)
        resampling = Resampling(np.arange(groups), 2000)
        drawn = resampling.sums(values[:, None])[:, 0] / groups
        (low, high), plain = resampling.interval(values.mean(), drawn), percentiles(drawn)
        assert high - low > wider * (plain[1] - plain[0])


def test_an_interval_never_leaves_its_figure_out():
    resampling = Resampling(np.arange(30), 500)
    drawn = np.random.default_rng(0).normal(size=500)
    for value in (-5.0, 0.0, 5.0):
        low, high = resampling.interval(value, drawn)
        assert low <= value <= high


def test_an_interval_needs_values():
    drawn = np.random.default_rng(0).normal(size=100)
    drawn[:20] = np.nan
    entry = Resampling(np.arange(30), 100).entry(0.0, drawn, 30)
    assert entry["low"] is entry["high"] is entry["noise"] is None
    drawn[:12] = 0
    assert Resampling(np.arange(30), 100).entry(0.0, drawn, 30)["low"] is not None


def test_noise_is_what_two_graders_of_one_skill_differ_by_one_time_in_twenty():
    random = np.random.default_rng(0)
    right = np.arange(400) % 5 > 0
    entry = Resampling(np.arange(400), 2000).entry(0.8, resampled_accuracy(right), 400)
    assert entry["noise"] == pytest.approx(norm.ppf(0.975) * math.sqrt(2 * 0.8 * 0.2 / 400), rel=0.1)
    apart = abs(random.binomial(400, 0.8, 20_000) - random.binomial(400, 0.8, 20_000)) / 400
    assert (apart > entry["noise"]).mean() == pytest.approx(0.05, abs=0.02)


def resampled_accuracy(right):
    return Resampling(np.arange(len(right)), 2000).sums(right[:, None].astype(float))[:, 0] / len(right)


def test_sums_are_those_of_the_images_drawn():
    random = np.random.default_rng(0)
    units, columns = random.integers(0, 30, 100), random.normal(size=(100, 3))
    units = np.unique(units, return_inverse=True)[1]
    resampling = Resampling(units, 60)
    slow = [[(weights[units] * column).sum() for column in columns.T] for weights in resampling.weights.T]
    assert resampling.sums(columns) == pytest.approx(np.array(slow), abs=1e-9)
    chosen = random.random(100) < 0.3
    slow = [(weights[units[chosen]] * columns[chosen, 0]).sum() for weights in resampling.weights.T]
    assert resampling.part(chosen).sums(columns[chosen])[:, 0] == pytest.approx(slow, abs=1e-9)
    assert resampling.part(chosen).groups == len(set(units[chosen]))


def test_every_resample_draws_as_many_groups_as_there_are():
    weights = Resampling(np.arange(20), 130, seed=7).weights
    assert weights.shape == (20, 130) and (weights.sum(0) == 20).all() and weights.var() == pytest.approx(0.95, abs=0.1)
    assert np.array_equal(weights, Resampling(np.arange(20), 130, seed=7).weights)
    assert not np.array_equal(weights, Resampling(np.arange(20), 130, seed=8).weights)


def test_the_interval_of_a_share_of_one_or_none_is_exact_over_groups():
    resampling, everyone = Resampling(np.arange(20) // 2), np.ones(20, bool)
    entry = resampling.entry(1.0, np.ones(1000), 20, share_of=everyone)
    assert (entry["low"], entry["high"]) == (pytest.approx(beta.ppf(0.025, 10, 1)), 1)
    entry = resampling.entry(0.0, np.zeros(1000), 20, share_of=everyone)
    assert (entry["low"], entry["high"]) == (0, pytest.approx(beta.ppf(0.975, 1, 10)))


def test_one_group_has_no_interval():
    entry = Resampling(np.zeros(9, int)).entry(0.5, np.full(1000, 0.5), 9)
    assert entry == {"value": 0.5, "low": None, "high": None, "n": 9, "noise": None}


def test_a_figure_that_no_resample_moves_has_no_interval_and_no_noise():
    entry = Resampling(np.arange(20), 100, 0).entry(1.0, np.ones(100), 20)
    assert entry["low"] is entry["high"] is entry["noise"] is None
    labels = np.arange(60) % 3  # one class is always missed, and thirds are rounded
    entry = Resampling(np.arange(60)).of_grades(metrics.balanced_accuracy, labels, labels % 2, 3)
    assert entry["value"] == pytest.approx(2 / 3) and entry["low"] is entry["high"] is entry["noise"] is None
    share = Resampling(np.arange(20), 100, 0).entry(1.0, np.ones(100), 20, share_of=np.ones(20, bool))
    assert share["low"] == pytest.approx(0.025 ** (1 / 20)) and share["noise"] is None


def test_means_ratios_and_counts_are_those_of_the_images_drawn():
    random = np.random.default_rng(0)
    units, values, size, cells = random.integers(0, 9, 50), random.normal(size=50), random.random(50), np.arange(50) % 4
    resampling, chosen = Resampling(units, 100), random.random(50) < 0.5
    images = [np.repeat(np.arange(50), weights[units].astype(int)) for weights in resampling.weights.T]
    value, drawn = resampling.ratio(values, size)
    assert value == pytest.approx(values.sum() / size.sum())
    assert drawn == pytest.approx([values[own].sum() / size[own].sum() for own in images])
    assert (resampling.counts(cells, 5) == [np.bincount(cells[own], minlength=5) for own in images]).all()
    entry = resampling.mean(values, chosen)
    expected = resampling.entry(*resampling.ratio(values[:] * chosen, chosen), int(chosen.sum()))
    assert entry == expected and entry["value"] == pytest.approx(values[chosen].mean())
    assert resampling.mean(values, values > 9)["value"] is None


def test_a_metric_of_grades_comes_with_its_resamples():
    labels, grades = np.arange(40) % 3, np.arange(40) % 2
    resampling = Resampling(np.arange(40) // 2, 100)
    value, drawn = resampling.graded(metrics.accuracy, labels, grades, 3)
    assert value == (labels == grades).mean()
    assert drawn == pytest.approx(resampling.ratio(labels == grades, np.ones(40))[1])
    assert resampling.mean(labels == grades, is_share=True) == resampling.entry(
        value, drawn, 40, share_of=np.ones(40, bool)
    )


def test_a_value_that_is_not_chosen_does_not_count():
    resampling, chosen = Resampling(np.arange(30)), np.arange(30) < 25
    values = np.where(chosen, np.arange(30) % 3, np.nan)
    assert resampling.mean(values, chosen) == resampling.mean(np.nan_to_num(values), chosen)


def test_a_share_of_other_values_is_refused(refuses):
    resampling, chosen = Resampling(np.arange(9)), np.arange(9) < 8
    values = np.where(chosen, 1.0, 3.0)
    assert resampling.mean(values, chosen, is_share=True)["value"] == 1
    for wrong in (values, np.where(chosen, 1, np.nan), np.full(9, 0.5)):
        with refuses("option.value", "is_share"):
            resampling.mean(wrong, is_share=True)


def test_no_images_have_no_interval(refuses):
    with refuses("option.value", "units"):
        Resampling([])


@pytest.mark.parametrize("units", [[471_103, 5, 9, 5], [-1, -3, -2, -3], ["d", "a", "b", "a"]])
def test_units_may_have_any_numbers_or_names(units):
    resampling = Resampling(units, 50)
    assert resampling.weights.shape == (3, 50) and resampling.groups == 3
    assert resampling.mean([1, 0, 1, 1]) == Resampling([2, 0, 1, 0], 50).mean([1, 0, 1, 1])


def test_arrays_of_another_length_than_the_units_are_refused(refuses):
    resampling = Resampling(np.arange(20))
    for wrong in (
        lambda: resampling.mean(np.ones(19)),
        lambda: resampling.mean(np.ones(20), np.ones(19, bool)),
        lambda: resampling.of_grades(metrics.accuracy, np.zeros(19, int), np.zeros(19, int), 2),
        lambda: resampling.of_grades(metrics.accuracy, np.zeros(20, int), np.zeros(19, int), 2),
    ):
        with refuses("option.value", 19, 20):
            wrong()
