"""Search for good options with Optuna (pip install optuna), measured on validation images.

Each trial trains a grader. Its score is the best validation kappa in metrics.jsonl. Test images have no influence.
"""

import optuna

import foveal
from foveal.runs import read_metrics

data = foveal.prepare("phantom:160", out="runs/sweep/set", size=32)


def objective(trial: optuna.Trial) -> float:
    """The best validation kappa of a grader with the options of the trial."""
    run = foveal.train(
        data,
        out=f"runs/sweep/trial{trial.number}",
        encoder="small_conv",
        epochs=6,
        batch_size=16,
        learning_rate=trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True),
        views=trial.suggest_categorical("views", ["mild", "fundus"]),
    )
    return max(row["val_kappa"] for row in read_metrics(run))


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=3)
print(study.best_value, study.best_params)
