"""The causes by name: what each is in a sentence, what to do, and the command for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CauseText:
    """What a person is told of a cause."""

    title: str
    remedy: str
    command: str
    """`RUN`, `CONFIG` and `DATA` stand for the run folder, its configuration and its raw data."""
    data_fault: bool = False
    """A fault of data, labels, objective or code: no learning rate answers it."""


CAUSES: dict[str, CauseText] = {
    "non_finite": CauseText(
        "a loss, gradient or weight stopped being a number",
        "go back to the last checkpoint with a lower learning rate or fp32; look at the named term and cases",
        "volumen train RUN --resume -o precision=fp32",
    ),
    "double_activation": CauseText(
        "the outputs went through two sigmoids",
        "let the network end in logits and apply one sigmoid, in the loss or after it",
        "volumen audit CONFIG --only P8",
        data_fault=True,
    ),
    "input_lost": CauseText(
        "what reaches the network does not depend on the image",
        "look at a batch as the network gets it: a window or normalisation that clips all, or a channel that is empty",
        "volumen audit CONFIG --only P7 --only P8",
        data_fault=True,
    ),
    "pairs_wrong": CauseText(
        "images and labels do not belong together, or are moved against each other",
        "compare a slice of an image with its label; check names, axes and offsets",
        "volumen audit CONFIG --only P7",
        data_fault=True,
    ),
    "labels_wrong": CauseText(
        "the labels do not fit what the images show, or do not mean what they are taken for",
        "lay slices of label and image over each other; declare what each value means in dataset.yaml, prepare again",
        "volumen audit CONFIG --only P1 --only P2 --only P7",
        data_fault=True,
    ),
    "ignore_learned": CauseText(
        "unlabelled voxels are learned as if they were labelled",
        "declare their value as ignore in dataset.yaml and prepare again",
        "volumen audit CONFIG --only P1 --only P2",
        data_fault=True,
    ),
    "leak": CauseText(
        "held-out volumes are among the training data, or near copies of them",
        "make the folds by scroll, and take near copies out",
        "volumen folds DATA --by scroll --overwrite",
        data_fault=True,
    ),
    "normalisation_wrong": CauseText(
        "the grey values that the network gets are on the wrong scale",
        "use the normalisation of the whole volume, with robust percentiles where a few voxels are very bright",
        "volumen audit CONFIG --only P7",
        data_fault=True,
    ),
    "rate_too_high": CauseText(
        "the learning rate is too high",
        "go back to the best state and divide the rate by 10; measure the range first",
        "volumen audit rate CONFIG",
    ),
    "rate_too_low": CauseText(
        "the learning rate is too low",
        "multiply the rate by 10 to 30; measure the range first",
        "volumen audit rate CONFIG",
    ),
    "schedule_exhausted": CauseText(
        "the learning rate has come to its end before the run",
        "plan the schedule over the whole run (steps or epochs are mixed up where it ends early)",
        "volumen intervene RUN --kind rate_scale --factor 10",
    ),
    "clip_too_tight": CauseText(
        "every gradient is clipped to a small part of itself",
        "raise training.gradient_clip to about the usual norm",
        "volumen intervene RUN --kind gradient_clip --value 10",
    ),
    "weight_shock": CauseText(
        "the weights were knocked out of place",
        "go back to the best state; leave weight noise out or make it smaller",
        "volumen intervene RUN --kind reload_best",
    ),
    "gradients_accumulate": CauseText(
        "gradients are added up from step to step and never cleared",
        "call zero_grad before each backward pass",
        "volumen audit CONFIG --only P8",
        data_fault=True,
    ),
    "frozen_layers": CauseText(
        "layers that should learn do not change",
        "give all parameters to the optimiser, with requires_grad on",
        "volumen intervene RUN --kind unfreeze",
    ),
    "dead_channels": CauseText(
        "channels of the network carry nothing any more",
        "start from other weights with a lower learning rate, or restore the layer from the best checkpoint",
        "volumen intervene RUN --kind reload_best",
    ),
    "detached_term": CauseText(
        "a term of the objective gives no gradient",
        "let it be computed from the outputs that carry gradients (no detach, no threshold)",
        "volumen audit loss CONFIG",
        data_fault=True,
    ),
    "unreachable_term": CauseText(
        "a term of the objective cannot come down on these labels",
        "take it out, or judge it by what it can reach",
        "volumen audit loss CONFIG",
        data_fault=True,
    ),
    "worse_than_constant": CauseText(
        "it is worse than predicting one value everywhere",
        "compare with the best constant before anything else; labels, signs and rate are the first to look at",
        "volumen audit loss CONFIG",
    ),
    "dominating_term": CauseText(
        "one term of the objective drowns the others",
        "lower its weight until the gradients of the terms are of like size",
        "volumen audit loss CONFIG",
    ),
    "conflicting_terms": CauseText(
        "terms of the objective pull against each other",
        "drop the one that is further from what is scored, or lower its weight",
        "volumen ablate CONFIG --try remedies.yaml --steps 500 --seeds 3",
    ),
    "class_bias": CauseText(
        "the objective asks for more (or less) surface than there is",
        "set class weights and alpha so that the operating point is where you want it, or tune the threshold",
        "volumen audit CONFIG --only P3",
    ),
    "inverted_objective": CauseText(
        "the objective rewards what it should punish",
        "check the signs of its terms: each has to fall towards the truth",
        "volumen audit loss CONFIG",
        data_fault=True,
    ),
    "constant_predictor": CauseText(
        "the network predicts one value everywhere",
        "let it learn one patch by heart first; then look at rate, objective and labels",
        "volumen audit CONFIG --full --only P8",
    ),
    "overfitting": CauseText(
        "it learns the training volumes by heart",
        "more volumes, stronger augmentation, or the state before the metric fell",
        "volumen evaluate RUN",
    ),
    "wrong_metric": CauseText(
        "the metric does not measure what the loss learns",
        "compute it by hand on one volume: channel, orientation, threshold, which class is surface",
        "volumen score MASKS TRUTH",
        data_fault=True,
    ),
    "threshold_in_noise": CauseText(
        "the run is judged by differences that chance makes",
        "validate on whole volumes and ask for gains above twice the noise",
        "volumen audit CONFIG --only P9",
    ),
    "objectives_mixed": CauseText(
        "losses of different objectives are compared",
        "compare a fixed metric, which does not change with the weights of the terms",
        "volumen evaluate RUN",
        data_fault=True,
    ),
    "dead_setting": CauseText(
        "a setting that was meant to act does not",
        "look at what the run uses, and take out what never acts",
        "volumen audit liveness CONFIG",
        data_fault=True,
    ),
    "starved_loader": CauseText(
        "the network waits for its data",
        "more data.workers, fewer or cheaper augmentations",
        "volumen audit cost CONFIG",
    ),
    "converged": CauseText(
        "it has learned what this objective can teach it",
        "nothing is broken: more data or another model is what is left",
        "volumen evaluate RUN",
    ),
}
"""By the names that clues use."""
