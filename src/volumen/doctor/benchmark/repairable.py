"""Which faults can be undone from within a run, and why the others cannot: repair is measured on the first alone."""

REPAIRABLE: dict[str, str] = {
    "rate_too_high": "the rate is scaled down, or taken back with the best state",
    "rate_too_low": "the rate is scaled up",
    "schedule_per_batch": "another schedule takes its place",
    "frozen_encoder": "parameters are trained again",
    "frozen_but_head": "parameters are trained again",
    "weight_spike": "the best state is taken back, or the weights are learned anew",
    "nan_weight": "the last checkpoint is taken back",
    "clip_too_tight": "the limit is raised",
    "unreachable_variance": "the term is dropped or weighs less",
    "unreachable_entropy": "the term is dropped or weighs less",
    "topology_heavy": "the term is dropped or weighs less",
}
"""A fault that is done once or stands in the configuration, and what undoes it."""

_DATA = "of the data: no change of the run mends them"
_CODE = "of the code: what is computed stays wrong whatever the run's settings"
_AGAIN = "done anew after every step, so that nothing that is done to the run lasts"
_SETTING = "of a setting that no intervention changes, or that is not to be answered while a run goes on"

NOT_REPAIRABLE: dict[str, str] = {
    **dict.fromkeys(
        (
            "ignore_as_surface", "ignore_as_background", "off_by_one_up", "off_by_one_down", "swapped_classes",
            "image_shift", "label_flip", "shuffled_pairs", "missing_components", "thick_labels", "shuffled_labels",
            "odd_scales", "normalised_twice", "leak", "one_volume",
        ),
        _DATA,
    ),
    **dict.fromkeys(
        (
            "dice_sign", "loss_sign", "double_activation", "conflicting_terms", "unmasked_ignore", "detached_term",
            "gradients_kept", "half_overflow", "metric_of_background", "metric_of_elsewhere", "input_lost",
            "input_shuffled",
        ),
        _CODE,
    ),
    **dict.fromkeys(("weight_noise", "dead_channels"), _AGAIN),
    **dict.fromkeys(("inverted_class_weights", "dead_key", "best_by_noise", "starved_loader"), _SETTING),
}  # fmt: skip
"""The other kinds, with the reason."""
