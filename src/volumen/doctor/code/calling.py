"""A function that predicts, of any form, as one from array to array."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from volumen.doctor.code.kept import seed_all
from volumen.doctor.code.subject import Output, Subject, finest, like
from volumen.errors import UserError

Array = NDArray[Any]


def caller(subject: Subject) -> tuple[Callable[[Array], Array], Array, Array]:
    """Predict in the form that it takes, NumPy to NumPy, and a volume for it.

    Raises:
        UserError: It takes no form of volume that is known.
    """
    predict, said = subject.predict, ""
    assert predict is not None
    for volume in _volumes(subject):
        inner = volume.ndim
        forms: list[Callable[[Array], Any]] = [lambda one: one, torch.from_numpy]
        forms += [
            lambda one: torch.from_numpy(one)[None],
            lambda one: torch.from_numpy(one)[None, None],
            lambda one: one[None],
            lambda one: one[None, None],
        ]
        if subject.volume is not None:
            forms = [_as_given(subject.volume)]
        for form in forms:

            def call(one: Array, form: Callable[[Array], Any] = form, inner: int = inner) -> Array:
                seed_all(0)
                found = predict(form(np.ascontiguousarray(one)))
                found = found[0] if isinstance(found, tuple | list) else found
                return _squeezed(found, inner)

            try:
                with torch.no_grad():
                    answer = call(volume)
            except Exception as error:  # whatever it raises says that it wants another form
                said = said or f"{type(error).__name__}: {error}"
                continue
            if answer.ndim == inner:
                return call, volume, answer
            said = said or f"it returned {list(answer.shape)} for {list(volume.shape)}"
    raise UserError(
        f"predict cannot be called as predict(volume) with a volume [Z, Y, X]: {said[:300]}. Give volume= in the form "
        "that it takes; it returns a mask or probabilities [Z, Y, X]"
    )


def _squeezed(found: Any, inner: int) -> Array:
    """A prediction without its axes of one; of several classes the foreground's probability."""
    array = found.detach().float().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
    while array.ndim > inner and array.shape[0] == 1:
        array = array[0]
    if array.ndim == inner + 1:
        array = 1 - array[0] if float(array.min()) >= 0 and float(array.max()) <= 1 else array[1]
    return array.astype(np.float64)


def _as_given(example: Any) -> Callable[[Array], Any]:
    if isinstance(example, Tensor):
        return lambda one: torch.from_numpy(one).reshape(example.shape).to(example.dtype)
    return lambda one: one.reshape(np.shape(example))


def _volumes(subject: Subject) -> Iterator[Array]:
    if subject.volume is not None:
        array = subject.volume.numpy() if isinstance(subject.volume, Tensor) else np.asarray(subject.volume)
        axes = subject.batch.image.ndim - 2 if subject.batches else 3
        yield array.reshape(array.shape[-axes:])
        return
    if not subject.batches:
        raise UserError("predict needs a volume to predict: hand over volume=, [Z, Y, X]")
    image = subject.batch.image[0, 0].float().cpu().numpy()
    random = np.random.default_rng(1)
    sides = [[side + side // 2 + 3 for side in image.shape], [2 * side for side in image.shape], list(image.shape)]
    for shape in sides:
        yield (image.mean() + max(float(image.std()), 1e-3) * random.normal(size=shape)).astype(np.float32)


def echo(subject: Subject, model: nn.Module) -> Callable[[Tensor], Output]:
    """A forward pass that gives its input back as logits, in the form of the model's own output."""
    model.eval()
    with torch.no_grad():
        template = model(subject.images)
    channels = finest(template).shape[1]

    def given_back(image: Tensor) -> Output:
        shown = image[:, :1].float()
        logits = shown if channels == 1 else torch.cat([-shown, *[shown] * (channels - 1)], 1)
        activation: Any = subject.known.get("range")
        if activation is not None and activation.least >= -1e-3 and activation.most <= 1.001:
            logits = logits.sigmoid() if channels == 1 else logits.softmax(1)

        def head(one: Tensor) -> Tensor:
            scale = [
                side * a // b
                for side, a, b in zip(image.shape[2:], one.shape[2:], subject.images.shape[2:], strict=False)
            ]
            if one.ndim == logits.ndim + 1:
                return logits.unsqueeze(1).expand(-1, one.shape[1], *logits.shape[1:])
            return logits if scale == list(image.shape[2:]) else torch.nn.functional.interpolate(logits, scale)

        return like(template, lambda one: head(one) if one.ndim >= logits.ndim else one)

    return given_back
