"""Bad arguments of `uncertainty`."""

import torch
from torch import nn

import funcreg as fr
from funcreg import uncertainty
from tests.refusals import CLASSES, INTEGERS, KEY, Refusal, X, bad

P = torch.full((4, 3), 1 / 3)
MODEL = fr.from_module(lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)))
MODEL_PARAMS, MODEL_STATE = MODEL.init(KEY)
STILL = fr.from_module(lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0)))
NUMBERS = fr.from_module(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3)))
SQUEEZED = fr.from_module(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1), nn.Flatten(0)))
ONE_OUTPUT = fr.from_module(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1)))
MEMBERS_PARAMS, _ = fr.model_members(MODEL, KEY, 2)
SCALING = uncertainty.VectorScaling(torch.ones(3), torch.zeros(3))
SCORES, KNOWN_OR_NOT = torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([0, 1, 0, 1])
LAPLACE = {"model": MODEL, "params": MODEL_PARAMS, "state": MODEL_STATE, "x": X, "mask": fr.tree.is_weight,
           "prior_precision": 1.0}  # fmt: skip
WRONG = uncertainty.LaplaceState({"w": torch.ones(3)}, {}, torch.ones(2, 2))
RIGHT = WRONG._replace(factor=torch.eye(3))

REFUSALS: list[Refusal] = [
    ("uncertainty.mc_dropout", "model", lambda: uncertainty.mc_dropout(bad(nn.Linear(3, 3)), {}, {}, X, key=KEY)),
    (
        "uncertainty.mc_dropout",
        "samples",
        lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=KEY, samples=0),
    ),
    (
        "uncertainty.mc_dropout",
        "chunk_size",
        lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=KEY, chunk_size=0),
    ),
    (
        "uncertainty.mc_dropout",
        "chunk_size",
        lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=KEY, chunk_size=bad("all")),
    ),
    (
        "uncertainty.mc_dropout",
        "memory_budget",
        lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=KEY, memory_budget=0),
    ),
    (
        "uncertainty.mc_dropout",
        "memory_budget",
        lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=KEY, chunk_size=2, memory_budget=9),
    ),
    ("uncertainty.mc_dropout", "model", lambda: uncertainty.mc_dropout(STILL, MODEL_PARAMS, MODEL_STATE, X, key=KEY)),
    (
        "uncertainty.mc_dropout",
        "model",
        lambda: uncertainty.mc_dropout(ONE_OUTPUT, *ONE_OUTPUT.init(KEY), X, key=KEY),
    ),
    (
        "uncertainty.mc_dropout",
        "model",
        lambda: uncertainty.mc_dropout(SQUEEZED, *SQUEEZED.init(KEY), X, key=KEY),
    ),
    *(
        (
            "uncertainty.mc_dropout",
            "model",
            lambda model=model: uncertainty.mc_dropout(model, *model.init(KEY), X, key=KEY, head="gaussian"),
        )
        for model in (NUMBERS, ONE_OUTPUT, SQUEEZED)
    ),
    (
        "uncertainty.mc_dropout",
        "head",
        lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=KEY, head=bad("logits")),
    ),
    ("uncertainty.ensemble", "head", lambda: uncertainty.ensemble(MODEL, MEMBERS_PARAMS, {}, X, head=bad(None))),
    (
        "uncertainty.ensemble",
        "model",
        lambda: uncertainty.ensemble(NUMBERS, *fr.model_members(NUMBERS, KEY, 2), X, head="gaussian"),
    ),
    *(
        (
            "uncertainty.laplace",
            argument,
            lambda how=how: uncertainty.laplace(**{**LAPLACE, **bad(how)}),
        )
        for argument, how in (
            ("model", {"model": nn.Linear(3, 3)}),
            ("model", {"model": ONE_OUTPUT, **dict(zip(("params", "state"), ONE_OUTPUT.init(KEY), strict=True))}),
            ("params's n", {"params": {"n": INTEGERS}}),
            ("mask", {"mask": lambda name, leaf: False}),
            ("mask", {"mask": "0.weight"}),
            ("prior_precision", {"prior_precision": 0.0}),
            ("head", {"head": "raw"}),
            ("noise_variance", {"noise_variance": 1.0}),
            ("noise_variance", {"head": "mean"}),
            ("noise_variance", {"head": "mean", "noise_variance": 0.0}),
            ("batch_size", {"batch_size": 0}),
            ("x", {"x": X[:0]}),
        )
    ),
    ("uncertainty.sample_laplace", "state", lambda: uncertainty.sample_laplace(bad(MODEL_PARAMS), key=KEY)),
    ("uncertainty.sample_laplace", "state.factor", lambda: uncertainty.sample_laplace(WRONG, key=KEY)),
    (
        "uncertainty.sample_laplace",
        "key",
        lambda: uncertainty.sample_laplace(WRONG._replace(rest={}, factor=torch.eye(3)), key=bad(0)),
    ),
    ("uncertainty.regression_from_samples", "means", lambda: uncertainty.regression_from_samples(INTEGERS)),
    ("uncertainty.regression_from_samples", "means", lambda: uncertainty.regression_from_samples(X[:0])),
    ("uncertainty.regression_from_samples", "variances", lambda: uncertainty.regression_from_samples(X, -1.0)),
    ("uncertainty.regression_from_samples", "variances", lambda: uncertainty.regression_from_samples(X, X - 9)),
    ("uncertainty.regression_from_samples", "variances", lambda: uncertainty.regression_from_samples(X, X[:2] ** 2)),
    ("uncertainty.regression_from_samples", "variances", lambda: uncertainty.regression_from_samples(X, bad(None))),
    (
        "uncertainty.ensemble",
        "model",
        lambda: uncertainty.ensemble(ONE_OUTPUT, *fr.model_members(ONE_OUTPUT, KEY, 2), X),
    ),
    (
        "uncertainty.mc_dropout",
        "batch_size",
        lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=KEY, batch_size=0),
    ),
    (
        "uncertainty.mc_dropout",
        "x",
        lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X[:0], key=KEY, batch_size=2),
    ),
    ("uncertainty.mc_dropout", "key", lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=bad(3))),
    ("uncertainty.ensemble", "model", lambda: uncertainty.ensemble(bad(nn.Linear(3, 3)), {}, {}, X)),
    (
        "uncertainty.ensemble",
        "chunk_size",
        lambda: uncertainty.ensemble(MODEL, MEMBERS_PARAMS, MODEL_STATE, X, chunk_size=0),
    ),
    (
        "uncertainty.ensemble",
        "params's 0.weight",
        lambda: uncertainty.ensemble(MODEL, {**MEMBERS_PARAMS, "0.weight": X}, MODEL_STATE, X),
    ),
    (
        "uncertainty.ensemble",
        "batch_size",
        lambda: uncertainty.ensemble(MODEL, MEMBERS_PARAMS, MODEL_STATE, X, batch_size=bad("all")),
    ),
    ("uncertainty.ensemble", "state", lambda: uncertainty.ensemble(MODEL, MEMBERS_PARAMS, {"mean": X}, X)),
    ("uncertainty.ensemble", "params", lambda: uncertainty.ensemble(MODEL, {}, {}, X)),
    (
        "uncertainty.ensemble",
        "params",
        lambda: uncertainty.ensemble(MODEL, fr.tree.map(lambda leaf: leaf[:0], MEMBERS_PARAMS), MODEL_STATE, X),
    ),
    ("uncertainty.fit_temperature", "logits", lambda: uncertainty.fit_temperature(INTEGERS, CLASSES)),
    ("uncertainty.fit_temperature", "logits", lambda: uncertainty.fit_temperature(X[:0], CLASSES[:0])),
    ("uncertainty.fit_temperature", "targets", lambda: uncertainty.fit_temperature(X, X)),
    ("uncertainty.fit_temperature", "targets", lambda: uncertainty.fit_temperature(X, CLASSES[:2])),
    ("uncertainty.fit_temperature", "steps", lambda: uncertainty.fit_temperature(X, CLASSES, steps=0)),
    ("uncertainty.from_samples", "probabilities", lambda: uncertainty.from_samples(torch.ones(3))),
    ("uncertainty.from_samples", "probabilities", lambda: uncertainty.from_samples(torch.ones(0, 2, 3))),
    ("uncertainty.from_samples", "probabilities", lambda: uncertainty.from_samples(torch.ones(2, 3))),
    ("uncertainty.entropy", "probabilities", lambda: uncertainty.entropy(INTEGERS)),
    ("uncertainty.entropy", "probabilities", lambda: uncertainty.entropy(X)),
    ("uncertainty.entropy", "probabilities", lambda: uncertainty.entropy(torch.tensor([1.5, -0.5]))),
    ("uncertainty.fit_temperature", "targets", lambda: uncertainty.fit_temperature(X, CLASSES + 1)),
    *(
        (f"uncertainty.{score.__name__}", argument, lambda f=score, p=p, y=y: f(p, y))
        for score in (
            uncertainty.negative_log_likelihood,
            uncertainty.brier,
            uncertainty.expected_calibration_error,
            uncertainty.classwise_calibration_error,
            uncertainty.reliability_curve,
        )
        for argument, p, y in (
            ("targets", P, CLASSES + 1),
            ("targets", P, CLASSES.unsqueeze(-1)),
            ("probabilities", X, CLASSES),
            ("probabilities", 0.8 * X[:, :1], CLASSES),
            ("probabilities", P[0, 0], CLASSES),
        )
    ),
    ("uncertainty.negative_log_likelihood", "targets", lambda: uncertainty.negative_log_likelihood(P, P)),
    (
        "uncertainty.negative_log_likelihood",
        "reduction",
        lambda: uncertainty.negative_log_likelihood(P, CLASSES, reduction="sum"),
    ),
    ("uncertainty.brier", "targets", lambda: uncertainty.brier(P, CLASSES[:2])),
    ("uncertainty.brier", "probabilities", lambda: uncertainty.brier(bad(None), CLASSES)),
    *(
        (f"uncertainty.{score.__name__}", argument, lambda f=score, how=how: f(P, CLASSES, **how))
        for score in (
            uncertainty.expected_calibration_error,
            uncertainty.classwise_calibration_error,
            uncertainty.reliability_curve,
        )
        for argument, how in (("bins", bad({"bins": 0})), ("strategy", bad({"strategy": "kmeans"})))
    ),
    (
        "uncertainty.expected_calibration_error",
        "probabilities",
        lambda: uncertainty.expected_calibration_error(P[:0], CLASSES[:0]),
    ),
    *(
        (f"uncertainty.{score.__name__}", argument, lambda f=score, s=s, y=y: f(s, y))
        for score in (uncertainty.auroc, uncertainty.average_precision, uncertainty.false_positive_rate)
        for argument, s, y in (
            ("scores", INTEGERS, KNOWN_OR_NOT),
            ("scores", torch.tensor([0.1, 0.2, torch.nan, 0.3]), KNOWN_OR_NOT),
            ("scores", torch.ones(0), KNOWN_OR_NOT[:0]),
            ("targets", SCORES, KNOWN_OR_NOT[:3]),
            ("targets", SCORES, KNOWN_OR_NOT + 1),
            ("targets", SCORES, torch.zeros(4, dtype=torch.int64)),
            ("targets", SCORES, KNOWN_OR_NOT.float()),
        )
    ),
    ("uncertainty.auroc", "targets", lambda: uncertainty.auroc(SCORES, torch.ones(4, dtype=torch.int64))),
    ("uncertainty.auroc", "ignore_index", lambda: uncertainty.auroc(SCORES, KNOWN_OR_NOT, ignore_index=0)),
    ("uncertainty.false_positive_rate", "recall", lambda: uncertainty.false_positive_rate(SCORES, KNOWN_OR_NOT, 95.0)),
    ("uncertainty.fit_vector_scaling", "logits", lambda: uncertainty.fit_vector_scaling(INTEGERS, CLASSES)),
    ("uncertainty.fit_vector_scaling", "logits", lambda: uncertainty.fit_vector_scaling(X[:0], CLASSES[:0])),
    ("uncertainty.fit_vector_scaling", "targets", lambda: uncertainty.fit_vector_scaling(X, CLASSES + 1)),
    ("uncertainty.fit_vector_scaling", "targets", lambda: uncertainty.fit_vector_scaling(X, CLASSES[:2])),
    ("uncertainty.fit_vector_scaling", "steps", lambda: uncertainty.fit_vector_scaling(X, CLASSES, steps=0)),
    ("uncertainty.apply_vector_scaling", "logits", lambda: uncertainty.apply_vector_scaling(INTEGERS, SCALING)),
    ("uncertainty.apply_vector_scaling", "scaling", lambda: uncertainty.apply_vector_scaling(X, bad(X[0]))),
    (
        "uncertainty.apply_vector_scaling",
        "scaling's scale",
        lambda: uncertainty.apply_vector_scaling(X[:, :2], SCALING),
    ),
    (
        "uncertainty.apply_vector_scaling",
        "scaling's bias",
        lambda: uncertainty.apply_vector_scaling(X, SCALING._replace(bias=X[0, 0])),
    ),
    ("uncertainty.conformal_quantile", "scores", lambda: uncertainty.conformal_quantile(INTEGERS, 0.1)),
    ("uncertainty.conformal_quantile", "scores", lambda: uncertainty.conformal_quantile(SCORES * torch.nan, 0.1)),
    ("uncertainty.conformal_quantile", "scores", lambda: uncertainty.conformal_quantile(P, 0.1)),
    ("uncertainty.conformal_quantile", "alpha", lambda: uncertainty.conformal_quantile(SCORES, 0.0)),
    ("uncertainty.conformal_quantile", "alpha", lambda: uncertainty.conformal_quantile(SCORES, 90.0)),
    ("uncertainty.conformal_quantile", "alpha", lambda: uncertainty.conformal_quantile(SCORES, SCORES)),
    ("uncertainty.conformal_quantile", "targets", lambda: uncertainty.conformal_quantile(P, 0.1, targets=CLASSES + 1)),
    ("uncertainty.conformal_quantile", "targets", lambda: uncertainty.conformal_quantile(SCORES, 0.1, targets=CLASSES)),
    ("uncertainty.lac_scores", "probabilities", lambda: uncertainty.lac_scores(X)),
    ("uncertainty.aps_scores", "probabilities", lambda: uncertainty.aps_scores(X, key=None)),
    ("uncertainty.aps_scores", "key", lambda: uncertainty.aps_scores(P, key=bad(3))),
    ("uncertainty.prediction_sets", "scores", lambda: uncertainty.prediction_sets(INTEGERS, 0.5)),
    ("uncertainty.prediction_sets", "scores", lambda: uncertainty.prediction_sets(P * torch.nan, 0.5)),
    ("uncertainty.prediction_sets", "threshold", lambda: uncertainty.prediction_sets(P, torch.nan)),
    ("uncertainty.prediction_sets", "threshold", lambda: uncertainty.prediction_sets(P, torch.tensor(torch.nan))),
    ("uncertainty.prediction_sets", "threshold", lambda: uncertainty.prediction_sets(P, SCORES)),
    ("uncertainty.interval_scores", "predictions", lambda: uncertainty.interval_scores(INTEGERS, X)),
    ("uncertainty.interval_scores", "predictions", lambda: uncertainty.interval_scores((X, X[:1]), X)),
    ("uncertainty.interval_scores", "predictions", lambda: uncertainty.interval_scores(bad((X, X, X)), X)),
    ("uncertainty.interval_scores", "targets", lambda: uncertainty.interval_scores(X, X[:, :1])),
    ("uncertainty.interval_scores", "scale", lambda: uncertainty.interval_scores(X, X, scale=0.0)),
    ("uncertainty.interval_scores", "scale", lambda: uncertainty.interval_scores(SCORES, SCORES, scale=torch.ones(3))),
    ("uncertainty.prediction_intervals", "threshold", lambda: uncertainty.prediction_intervals(X, bad("inf"))),
    ("uncertainty.prediction_intervals", "scale", lambda: uncertainty.prediction_intervals(X, 0.5, scale=-1.0)),
]
