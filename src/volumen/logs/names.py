"""What a column, a key or a word of a log means, by its name; `docs/diagnose-logs.md` says the same in words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from volumen.errors import UserError
from volumen.system.names import shown

TRAIN, VALIDATION, TEST = "train", "val", "test"
SPLITS = {
    **dict.fromkeys(("train", "training", "tr", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev", "heldout", "holdout"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
LOSS_WORDS = frozenset({"loss", "losses", "objective", "criterion"})
TERM_WORDS = frozenset({
    "focal", "ce", "bce", "crossentropy", "xent", "nll", "tversky", "hinge", "lovasz", "variance", "entropy",
    "boundary", "connectivity", "skeleton", "kl", "kld", "regularization", "regularisation", "regularizer",
    "regulariser", "regression", "topology", "merge", "medial", "distance", "l1", "l2",
})  # fmt: skip
"""Of terms of a loss that are called so without the word `loss`."""
METRIC_WORDS = frozenset({
    "dice", "dsc", "cldice", "f1", "fscore", "iou", "miou", "jaccard", "accuracy", "acc", "precision", "recall",
    "sensitivity", "specificity", "auc", "auroc", "auprc", "ap", "map", "map50", "map75", "psnr", "ssim", "score",
    "kappa", "mcc", "r2", "bleu", "nsd", "topo", "voi", "pq", "correlation", "leaderboard",
})  # fmt: skip
AMBIGUOUS = frozenset({"dice", "cldice", "iou", "jaccard", "soft_dice"})
"""Scores that are terms of a loss (1 - score) where they stand among such."""
COST_WORDS = frozenset({
    "hd", "hd95", "hausdorff", "assd", "asd", "msd", "mae", "mse", "rmse", "mape", "error", "err", "fpr", "fnr",
    "ece", "brier", "perplexity", "ppl", "wer", "cer",
})  # fmt: skip
"""Scores that are better when lower."""
PASSING_WORDS = frozenset({
    "best", "target", "goal", "expected", "previous", "prev", "threshold", "delta", "improvement", "improved",
    "gap", "min", "max", "minimum", "maximum", "patience", "alpha", "gamma", "smooth", "smoothing", "power",
    "factor", "scale", "scaling", "scaler", "momentum", "decay", "std", "noise", "warmup", "initial", "base",
    "final", "wait", "counter", "estimated", "eta", "remaining", "worst", "ema",
})  # fmt: skip
"""A name with one of them is no reading of the epoch."""
NOISE_WORDS = frozenset({
    "average", "avg", "mean", "running", "current", "cur", "total", "overall", "sum", "combined", "full", "trainer",
    "metric", "metrics", "scalar", "scalars", "log", "logs", "summary", "per", "online", "info", "debug", "warning",
    "root", "the", "this", "of", "in", "now", "at", "is", "was", "my", "model", "net", "network", "value", "values",
    "coefficient", "coef", "coeff", "index", "idx", "number", "no", "num", "global", "new", "after", "fold", "end",
    "done", "finished", "completed", "rank0", "stage", "results", "result", "history", "and", "with",
})  # fmt: skip
RATE_WORDS = frozenset({"lr", "rate"})
TIME_WORDS = frozenset({"time", "seconds", "duration", "sec", "secs", "took", "elapsed", "runtime"})
SHARE_WORDS = frozenset({"share", "fraction", "ratio", "percent", "percentage", "pct", "prop", "proportion"})
SURFACE_WORDS = frozenset({"foreground", "fg", "positive", "positives", "surface"})
TRUE_WORDS = frozenset({"true", "truth", "label", "labels", "target", "gt", "actual"})
PREDICTED_WORDS = frozenset({"pred", "predicted", "prediction", "predictions", "output"})
EPOCH_WORDS, STEP_WORDS = frozenset({"epoch", "epochs", "ep"}), frozenset({"step", "steps", "iteration", "iter", "it"})
FINE_WORDS = frozenset({"step", "batch", "iter", "iteration"})
OTHER_WORDS = frozenset({
    "learning", "gradient", "grad", "norm", "data", "loader", "loading", "clip", "clipped", "weight", "weights",
    "pseudo", "soft", "hard", "cross", "sheet",
})  # fmt: skip
KNOWN_WORDS = (
    frozenset(SPLITS) | LOSS_WORDS | TERM_WORDS | METRIC_WORDS | COST_WORDS | NOISE_WORDS | RATE_WORDS | TIME_WORDS
    | SHARE_WORDS | SURFACE_WORDS | TRUE_WORDS | PREDICTED_WORDS | EPOCH_WORDS | STEP_WORDS | FINE_WORDS
    | OTHER_WORDS
)  # fmt: skip

TOTAL = "total"
EVERY_KIND = (
    "epoch", "step", "loss", "term", "weighted", "weight", "metric", "cost", "rate", "gradient_norm", "clipped_share",
    "predicted_share", "true_share", "seconds", "loader_seconds", "ignore",
    "planned_epochs", "batch", "minimum_delta", "gradient_clip",
)  # fmt: skip
"""What a name can mean; `loss` is the total, `term` a raw part of it, `cost` a score that is better when lower."""
SETTING_KINDS = ("planned_epochs", "batch", "minimum_delta", "gradient_clip")
"""Of the training as a whole."""
NAMED_KINDS = ("term", "weighted", "weight", "metric", "cost")
LONGEST_NAME = 200


@dataclass(frozen=True)
class Meaning:
    """What a name means."""

    kind: str
    """One of `EVERY_KIND`."""
    split: str = ""
    """`train`, `val`, `test`, or empty where the name does not say."""
    name: str = ""
    """Of a term, a weight or a metric."""
    fine: bool = False
    """Of a single step, where the log has means of the epoch too."""
    coarse: bool = False
    """Of a whole epoch, as the name says."""
    bare: bool = False
    """A term that is not called a loss."""
    percent: bool = False
    sure: bool = False
    """The user said so."""


IGNORED = Meaning("ignore")


def words_of(name: str) -> list[str]:
    """The words of a name in small letters: `valLoss`, `val/loss` and `Val Loss (%)` begin with the same two."""
    text = _CAMEL.sub(" ", name[:LONGEST_NAME].replace("%", " percent ")).lower()
    found: list[str] = []
    for word in _WORD.findall(text):
        glued = _GLUED.match(word)
        found += glued.groups() if glued else (word,)
    return found


_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
_GLUED = re.compile(r"^(train|training|validation|valid|val|eval|test)(loss|dice|acc|accuracy|iou|score|f1|time)$")


@lru_cache(maxsize=8192)
def meaning_of(name: str) -> Meaning:
    """What a name means; `IGNORED` where nothing is known by it."""
    words = words_of(name)
    split = next((SPLITS[word] for word in words if word in SPLITS), "")
    rest = [word for word in words if word not in SPLITS]
    if not rest:
        return IGNORED
    if set(rest) <= EPOCH_WORDS | NOISE_WORDS and EPOCH_WORDS & set(rest):
        planned = {"num", "total", "number", "max"} & set(rest) and "epochs" in rest
        return Meaning("planned_epochs") if planned else Meaning("epoch")
    if set(rest) <= {"max", "num", "epochs", "planned"} and "epochs" in rest:
        return Meaning("planned_epochs")
    if set(rest) <= STEP_WORDS | NOISE_WORDS and STEP_WORDS & set(rest):
        return Meaning("step")
    setting = _SETTINGS.get(" ".join(rest))
    if setting is not None:
        return Meaning(setting)
    weight = _weight(rest)
    if weight is not None:
        return weight
    share = _share(rest, split)
    if share is not None:
        return share
    if PASSING_WORDS & set(rest):
        return IGNORED
    return _reading(rest, split, {"percent", "pct"} & set(rest) != set())


_SETTINGS = {
    **dict.fromkeys(("batch size", "batchsize"), "batch"),
    **dict.fromkeys(("min delta", "minimum delta", "min improvement", "improvement threshold"), "minimum_delta"),
    **dict.fromkeys(
        ("grad clip", "gradient clip", "gradient clipping", "grad clip norm", "gradient clip norm", "max grad norm",
         "gradient clip val"), "gradient_clip"),
}  # fmt: skip


def _weight(rest: Sequence[str]) -> Meaning | None:
    """Of a term: `dice_weight`; the weights of classes and of a network are other things."""
    if not {"weight", "weights"} & set(rest):
        return None
    name = [word for word in rest if word not in {"weight", "weights", *LOSS_WORDS, *NOISE_WORDS}]
    is_term = name and any(word in TERM_WORDS | METRIC_WORDS for word in name)
    return Meaning("weight", name="_".join(name)) if is_term else IGNORED


def _share(rest: Sequence[str], split: str) -> Meaning | None:
    found = set(rest)
    counted = found & SURFACE_WORDS and found & SHARE_WORDS
    if not counted and not ({"foreground", "fg"} & found and found & (TRUE_WORDS | PREDICTED_WORDS)):
        return None
    if found & (METRIC_WORDS | LOSS_WORDS):
        return None
    kind = "true_share" if found & TRUE_WORDS else "predicted_share"
    return Meaning(kind, split, percent=bool(found & {"percent", "pct", "percentage"}))


def _reading(rest: Sequence[str], split: str, percent: bool) -> Meaning:
    found = set(rest)
    fine = rest[-1] in FINE_WORDS
    coarse = bool(EPOCH_WORDS & found)
    if RATE_WORDS & found and ("lr" in found or "learning" in found):
        return Meaning("rate")
    if {"grad", "gradient"} & found:
        if "norm" in found:
            return Meaning("gradient_norm", split, fine=fine)
        return Meaning("clipped_share", split) if {"clip", "clipped"} & found and found & SHARE_WORDS else IGNORED
    if TIME_WORDS & found:
        if {"data", "loader", "loading"} & found:
            return Meaning("loader_seconds", split, fine=fine)
        return Meaning("seconds", split) if EPOCH_WORDS & found or split else IGNORED
    plain = NOISE_WORDS | EPOCH_WORDS | FINE_WORDS | SHARE_WORDS | {"weighted"}
    name = [_SAME.get(word, word) for word in rest if word not in plain | LOSS_WORDS]
    if LOSS_WORDS & found:
        kind = "loss" if not name else "weighted" if "weighted" in found else "term"
        return Meaning(kind, split, "_".join(name), fine, coarse, percent=percent)
    if COST_WORDS & found:
        return Meaning("cost", split, "_".join(name), fine, coarse, percent=percent)
    if METRIC_WORDS & found:
        called = [word for word in name if word != "score"] or ["score"]
        return Meaning("metric", split, "_".join(called), fine, coarse, percent=percent)
    if TERM_WORDS & found:
        kind = "weighted" if "weighted" in found else "term"
        return Meaning(kind, split, "_".join(name), fine, coarse, bare=True, percent=percent)
    return IGNORED


_SAME = {"acc": "accuracy", "dsc": "dice"}


def parse_map(entries: Sequence[str]) -> dict[str, Meaning]:
    """Meanings by name from `COLUMN=MEANING`, as `--map` takes them.

    A meaning is one of `EVERY_KIND`, with `train.` or `val.` before it and, for terms and scores, `:NAME` after it:
    `acc=val.metric:accuracy`.

    Raises:
        UserError: An entry that says nothing of the kind.
    """
    found: dict[str, Meaning] = {}
    for entry in entries:
        column, equals, said = entry.rpartition("=")
        kind, _, name = said.strip().partition(":")
        before, dot, after = kind.partition(".")
        split, kind = (SPLITS.get(before, ""), after) if dot else ("", kind)
        if not equals or not column.strip() or kind not in EVERY_KIND or (dot and not split):
            raise UserError(
                f"--map {shown(entry)}: expected COLUMN=MEANING, such as acc=val.metric:accuracy, where the meaning "
                f"is one of {', '.join(EVERY_KIND)}, after train. or val. where it matters"
            )
        own = "_".join(words_of(name or column)) if kind in NAMED_KINDS else ""
        found[key_of(column)] = Meaning(kind, split, own, sure=True)
    return found


def key_of(name: str) -> str:
    """What tells names apart in `--map`: case and spaces at the ends do not."""
    return name.strip().strip("\"'").casefold()


def parse_weights(text: str) -> dict[str, float]:
    """Weights of the terms from `dice=0.5,focal=0.3`, as `--loss` takes them.

    Raises:
        UserError: A part without a name or a number of 0 or more.
    """
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in re.split(r"[,;\s]+", text))):
        name, _, value = part.partition("=") if "=" in part else part.partition(":")
        name = term_name(name)
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not name or not 0 <= weight < 1e9:
            raise UserError(f"--loss: expected NAME=WEIGHT, such as dice=0.5,focal=0.3, got {shown(part)}")
        found[name] = weight
    return found


def term_name(name: str) -> str:
    """A term's name as it is kept: `Dice Loss` and `dice_weight` are `dice`."""
    dropped = LOSS_WORDS | {"weight", "weights"}
    return "_".join(_SAME.get(word, word) for word in words_of(name) if word not in dropped)


def meaning_by(name: str, known: Mapping[str, Meaning]) -> Meaning:
    """What a name means, as the user said or else by itself."""
    return known.get(key_of(name)) or meaning_of(name)
