import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import RidgeClassifierCV

import foveal
from foveal.compare import probe
from foveal.nets.probes import PENALTIES, logistic_regression, nearest_neighbours, ridge

PROBES = (nearest_neighbours, ridge, lambda *given: next(logistic_regression(*given, penalties=[0.1])))


@pytest.fixture(scope="module")
def blobs():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 12, generator=generator)
    labels = torch.arange(240) % 3
    features = centres[labels] + 1.2 * torch.randn(240, 12, generator=generator)
    return features[:180] * 3 + 1, labels[:180], features[180:] * 3 + 1, labels[180:]


def test_logistic_regression_minimises_the_penalised_cross_entropy(blobs):
    known, labels, asked, _ = blobs
    (ours,) = logistic_regression(known, labels, asked, 3, [0.01])
    mean, spread = known.double().mean(0), known.double().std(0)
    inputs, others = ((part.double() - mean) / spread for part in (known, asked))
    weight, bias = (torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, inputs.shape[1]), 3))
    optimiser = torch.optim.SGD([weight, bias], lr=0.5)
    for _ in range(3000):
        optimiser.zero_grad()
        chances = torch.log_softmax(inputs @ weight.T + bias, 1)
        loss = -chances[torch.arange(len(labels)), labels].mean() + 0.5 * 0.01 * weight.square().sum()
        loss.backward()
        optimiser.step()
    expected = torch.softmax(others @ weight.T + bias, 1).detach()
    assert (ours - expected).abs().max() < 2e-3


def test_a_single_class_among_the_labels_is_the_only_answer(blobs):
    known, _, asked, _ = blobs
    labels = torch.full((len(known),), 2)
    answers = list(logistic_regression(known, labels, asked, 4, [0.1, 0.01]))
    assert len(answers) == 2 and all(torch.equal(answer[:, 2], torch.ones(len(asked))) for answer in answers)
    rare = torch.arange(30).eq(7).long()  # in one of the folds below no image of the class is left to fit
    folds = [torch.arange(30) % 5 == fold for fold in range(5)]
    assert probe.best_penalty(known[:30], rare, 2, folds) in probe.PENALTIES


def test_a_feature_that_hardly_varies_decides_nothing(blobs):
    known, labels, asked, _ = blobs
    still = 1e-4 * torch.sin(torch.arange(len(known)))  # among the known; then it moves
    moved = torch.cat([torch.cat([asked, torch.full((60, 1), value)], 1) for value in (0.0, 0.1)])
    (answers,) = logistic_regression(torch.cat([known, still[:, None]], 1), labels, moved, 3, [0.01])
    assert (answers[:60] - answers[60:]).abs().max() < 0.01


def test_features_that_do_not_vary_at_all_give_an_answer():
    known = torch.full((20, 4), 0.3)
    (answers,) = logistic_regression(known, torch.arange(20) % 2, known, 2, [0.01])
    assert answers.isfinite().all()


def test_a_class_without_an_image_has_probability_0(blobs):
    known, labels, asked, _ = blobs
    (answers,) = logistic_regression(known, labels + (labels > 0), asked, 5, [0.01])  # classes 0, 2 and 3
    (three,) = logistic_regression(known, labels, asked, 3, [0.01])
    np.testing.assert_allclose(answers[:, [0, 2, 3]], three, rtol=1e-5)
    assert not answers[:, [1, 4]].any()


def test_ridge_in_closed_form_agrees_with_scikit_learn(blobs):
    known, labels, asked, truth = blobs
    grades = ridge(known, labels, asked, 3).argmax(1).numpy()
    mean, spread = known.mean(0), known.std(0)
    reference = RidgeClassifierCV(alphas=np.logspace(-3, 3, 25)).fit((known - mean) / spread, labels)
    assert (grades == reference.predict((asked - mean) / spread)).mean() > 0.95
    assert (grades == truth.numpy()).mean() > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("width", [30, 300], ids=["more-images", "more-features"])
def test_ridge_of_collinear_features_is_the_penalised_solution_with_the_best_left_out_error(width):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(120, 8, generator=generator, dtype=torch.float64)
    features = hidden @ torch.randn(8, width, generator=generator, dtype=torch.float64)
    features += 0.3 * torch.randn(120, width, generator=generator, dtype=torch.float64)
    labels = hidden[:, :3].argmax(1)
    known, asked = features[:80], features[80:]
    inputs, others = ((part - known.mean(0)) / known.std(0) for part in (known, asked))
    targets = torch.nn.functional.one_hot(labels[:80], 3).double()

    def fitted(rows, answers, asked_rows, penalty):  # with an intercept that nothing penalises
        shift, middle = rows.mean(0), answers.mean(0)
        gram = (rows - shift).T @ (rows - shift) + penalty * torch.eye(width, dtype=torch.float64)
        return (asked_rows - shift) @ torch.linalg.solve(gram, (rows - shift).T @ (answers - middle)) + middle

    def left_out(penalty):
        kept = [[j for j in range(80) if j != i] for i in range(80)]
        answers = [fitted(inputs[rest], targets[rest], inputs[i], penalty) for i, rest in enumerate(kept)]
        return float((torch.stack(answers) - targets).square().mean())

    mean_square = inputs.square().sum() / min(80, width)
    penalty = min((float(share * mean_square) for share in PENALTIES), key=left_out)
    ours = ridge(known, labels[:80], asked, 3)
    assert torch.allclose(ours.double(), fitted(inputs, targets, others, penalty), atol=1e-5)


def test_ridge_of_features_that_do_not_vary_answers_with_the_share_of_each_class():
    known = torch.full((20, 4), 0.5)
    assert torch.allclose(ridge(known, torch.arange(20) % 2, known[:3], 2), torch.tensor(0.5))


def test_neighbours_vote_by_cosine(blobs):
    known, labels, asked, _ = blobs
    scores = nearest_neighbours(known, labels, asked, 3, count=5)
    first = torch.nn.functional.normalize(asked[:1], dim=1) @ torch.nn.functional.normalize(known, dim=1).T
    weight, index = first[0].topk(5)
    votes = [float((weight[labels[index] == c] / 0.1).exp().sum()) for c in range(3)]
    assert scores[0].tolist() == pytest.approx(votes, rel=1e-4)


@pytest.mark.slow
def test_a_probe_compares_encoders_with_intervals(phantom_set, tmp_path):
    run = foveal.pretrain(phantom_set, out=tmp_path / "run", encoder="small_conv", epochs=1, batch_size=16)
    table = foveal.probe(phantom_set, init=("random", str(run)), encoder="small_conv", out=tmp_path / "t" / "probe.csv")
    assert list(table["init"].unique()) == ["random", str(run)]
    assert set(table["readout"]) == {"20 nearest", "linear"}
    assert set(table["metric"]) == {"accuracy", "macro_f1", "quadratic_kappa"}
    own = {init: part.set_index(["readout", "metric"]) for init, part in table.groupby("init")}
    assert np.allclose(own[str(run)]["difference"], own[str(run)]["value"] - own["random"]["value"])
    assert own["random"]["answer"].isna().all() and set(own[str(run)]["answer"]) <= {"better", "worse", "cannot tell"}
    assert (table["n"] == 12).all() and len(pd.read_csv(tmp_path / "t" / "probe.csv")) == len(table)


def test_the_same_probe_twice_says_the_same(phantom_set):
    one, two = (foveal.probe(phantom_set, init="random", encoder="small_conv") for _ in range(2))
    assert one.equals(two)


def test_all_encoders_see_images_of_one_size(phantom_set, looking_run, capsys):
    for inits, size in ((("random", str(looking_run)), 64), (("random",), 32)):
        foveal.probe(phantom_set, init=inits, encoder="resnet10t")
        assert capsys.readouterr().out.count(f"at {size} px") == len(inits) + 1  # and in the title of the table
    given = foveal.probe(phantom_set, init=("random", str(looking_run)), encoder="resnet10t", image_size=64)
    assert foveal.probe(phantom_set, init=("random", str(looking_run)), encoder="resnet10t").equals(given)


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ({"init": ()}, "option.value", "--init"),
        ({"neighbours": 0}, "option.value", "--neighbours is 0"),
        ({"init": "nowhere"}, "weights.missing", "nowhere"),
    ],
)
def test_wrong_options_are_named(phantom_set, options, code, named, refuses):
    with refuses(code, named):
        foveal.probe(phantom_set, encoder="small_conv", **options)


@pytest.mark.parametrize("probe", PROBES)
def test_arrays_of_numpy_get_the_scores_of_tensors(probe, blobs):
    known, labels, asked, _ = blobs
    grades = labels.numpy().astype(np.int32)
    grades.flags.writeable = False  # as a column of pandas
    scores = probe(known.numpy(), grades, asked.numpy(), 3)
    assert torch.equal(scores, probe(known, labels, asked, 3))


@pytest.mark.parametrize("wrong", [-1, 3])
@pytest.mark.parametrize("probe", PROBES)
def test_labels_outside_the_classes_are_refused(probe, wrong, refuses):
    labels = torch.tensor([0, 1, 2, 0])
    with refuses("probe.input", wrong):
        probe(torch.randn(4, 5), labels.index_fill(0, torch.tensor([1]), wrong), torch.randn(2, 5), 3)
    for known in (torch.randn(5, 5), torch.full((4, 5), torch.nan)):
        with refuses("probe.input", len(known)):
            probe(known, labels, torch.randn(2, 5), 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_neighbours_of_features_in_any_precision(dtype):
    known = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels, asked = torch.arange(30) % 3, known[:6] + 0.5
    right = nearest_neighbours(known.float(), labels, asked.float(), 3, count=5)
    assert torch.allclose(nearest_neighbours(known, labels, asked, 3, count=5).float(), right, rtol=1e-4)
    assert torch.allclose(nearest_neighbours(known, labels, asked.float(), 3, count=5).float(), right, rtol=1e-4)
