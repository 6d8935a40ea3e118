"""Faults of trainings in plain PyTorch, drawn over variants: each changes a healthy set-up."""

import copy
import types

import numpy as np
import torch
from code_setups import Net, dice, healthy, normalised, onehot
from torch import nn
from torch.nn import functional as F

BINARY = ("bce", "pos_weight", "bce_dice", "focal", "tversky")
CLASSES = ("ce", "ce_dice", "ce_smooth")


def end(trainer, random, names):
    ends = {
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "logsigmoid": F.logsigmoid, "relu": F.relu,
        "scaled": lambda x: 2 * torch.sigmoid(x), "clamp": lambda x: x.clamp(0, 1), "softmax": lambda x: x.softmax(1),
        "axis0": lambda x: x.softmax(0), "axis2": lambda x: x.softmax(2), "axis-1": lambda x: x.softmax(-1),
        "softplus": F.softplus, "sigmoid10": lambda x: torch.sigmoid(10 * x), "hardtanh": F.hardtanh,
        "logaxis": lambda x: x.log_softmax(2),
    }  # fmt: skip
    trainer.model.end = ends[str(random.choice(names))]


def head_binary(t, told, r):
    end(t, r, ["sigmoid", "tanh", "logsigmoid", "relu", "scaled", "clamp", "softplus", "sigmoid10", "hardtanh"])


def head_classes(t, told, r):
    end(t, r, ["sigmoid", "tanh", "softmax", "scaled", "clamp", "hardtanh"])


def head_axis(t, told, r):
    end(t, r, ["axis0", "axis2", "axis-1", "logaxis"])


def head_missing(t, told, r):
    t.loss = r.choice([
        lambda p, y: dice(p, y),
        lambda p, y: dice(p.clamp(0, 1), y) + F.binary_cross_entropy(p.clamp(1e-6, 1 - 1e-6), y),
        lambda p, y: ((p - y) ** 2).mean(), lambda p, y: 1 - (2 * (p * y).sum() + 1) / ((p**2).sum() + y.sum() + 1),
    ])  # fmt: skip


def head_nll(t, told, r):
    t.loss = lambda p, y: F.nll_loss(p, y)


def ignored(kind):
    def fault(t, told, r):
        def loss(z, y):
            valid, known = (y != 255).float(), torch.where(y == 255, 0, y)
            ce = F.cross_entropy(z, known, reduction="none")
            p, hot = z.softmax(1)[:, 1:], onehot(known, z.shape[1])[:, 1:]
            mask = valid.unsqueeze(1).expand_as(p)
            masked_ce = (ce * valid).sum() / valid.sum().clamp(min=1)
            return {
                "unmasked": ce.mean() + dice(p, hot, mask),
                "term": masked_ce + dice(p, hot),
                "inverted": (ce * (1 - valid)).sum() / (1 - valid).sum().clamp(min=1),
                "diluted": (ce * valid).mean(),
            }[kind]

        t.loss = loss

    return fault


def changed(make):
    """A loss of binary logits in place of the trainer's."""

    def fault(t, told, r):
        t.loss = make(r)

    return fault


def detached(r):
    weight = r.uniform(0.5, 2)
    return lambda z, y: F.binary_cross_entropy_with_logits(z, y) + weight * dice(z.detach().sigmoid(), y)


def rounded(r):
    weight = r.uniform(0.5, 2)
    return lambda z, y: F.binary_cross_entropy_with_logits(z, y) + weight * dice((z > 0).float(), y)


def all_rounded(r):
    return lambda z, y: dice((z > 0).float(), y) + 0 * z.sum()


def flipped(r):
    weight = r.uniform(0.7, 2)
    return lambda z, y: F.binary_cross_entropy_with_logits(z, y) - weight * dice(z.sigmoid(), y)


def all_flipped(r):
    return lambda z, y: 1 - dice(z.sigmoid(), y)


def temperature(r):
    t = float(r.choice([2.5, 5, 10, 0.1]))
    return lambda z, y: F.binary_cross_entropy_with_logits(z / t, y)


def summed(r):
    if r.random() < 0.5:
        return nn.BCEWithLogitsLoss(reduction="sum")
    return lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="none").flatten(1).mean(1).sum()


def first_only(r):
    return lambda z, y: F.binary_cross_entropy_with_logits(z[:1], y[:1])


def constant(r):
    def recall(z, y):
        return 1 - (z.sigmoid() * y).sum() / y.sum().clamp(min=1)

    return r.choice(
        [recall, lambda z, y: (z.sigmoid() * (1 - y)).mean(), lambda z, y: ((z.sigmoid() - y.mean()) ** 2).mean()]
    )


def not_truth(r):
    w = r.uniform(2, 6)
    return r.choice([
        lambda z, y: F.binary_cross_entropy_with_logits(z, y) + w * z.sigmoid().mean(),
        lambda z, y: F.binary_cross_entropy_with_logits(z, (F.max_pool3d if y.ndim == 5 else F.max_pool2d)(y, 3, 1, 1)),
        lambda z, y: F.binary_cross_entropy_with_logits(z, torch.roll(y, 3, -1)),
    ])  # fmt: skip


def later(kind):
    def make(r):
        at, w = int(r.choice([20, 100, 400])), r.uniform(0.3, 2)
        extra = r.choice([lambda z, y: z.sigmoid().mean(), lambda z, y: dice(z.sigmoid(), y)])

        class Later(nn.Module):
            def __init__(self):
                super().__init__()
                self.step = 0

            def forward(self, z, y):
                self.step += 1
                value = F.binary_cross_entropy_with_logits(z, y)
                return value + w * extra(z, y) if self.step > at * (20 if kind == "module" else 1) else value

        if kind == "module":
            return Later()
        count = [0]

        def closure(z, y):
            count[0] += 1
            value = F.binary_cross_entropy_with_logits(z, y)
            return value + w * extra(z, y) if count[0] > at else value

        def by_epoch(z, y, epoch=0):
            value = F.binary_cross_entropy_with_logits(z, y)
            return value + w * extra(z, y) if epoch >= at else value

        return closure if kind == "closure" else by_epoch

    return make


def wrong_weights(r):
    return nn.BCEWithLogitsLoss(pos_weight=torch.tensor(float(r.choice([0.02, 0.1, 100, 500]))))


def half_optimiser(t, told, r):
    params = list(t.model.parameters())
    keep = int(len(params) * r.uniform(0.2, 0.8))
    params = params[:keep] if r.random() < 0.5 else params[keep:]
    t.__init__(t.model, t.loss, t.batches, torch.optim.AdamW(params, 1e-3), t.classes, t.dims)


def other_optimiser(t, told, r):
    t.__init__(
        t.model, t.loss, t.batches, torch.optim.AdamW(copy.deepcopy(t.model).parameters(), 1e-3), t.classes, t.dims
    )


def frozen(t, told, r):
    getattr(t.model, str(r.choice(["encoder", "bottom", "decoder"]))).requires_grad_(False)


def no_gradient(t, told, r):
    part = getattr(t.model, str(r.choice(["bottom", "decoder"])))
    part.register_forward_hook(lambda m, i, o: o.detach())


def rate(t, told, r):
    kind = torch.optim.SGD if r.random() < 0.5 else torch.optim.AdamW
    value = float(r.choice([0.0, 1e-9, 30.0, 100.0]))
    t.schedule = None
    t.__init__(t.model, t.loss, t.batches, kind(t.model.parameters(), value), t.classes, t.dims)


def decay(t, told, r):
    value = float(r.choice([5.0, 20.0])) if r.random() < 0.5 else 0.5
    kind = torch.optim.AdamW if value > 1 else torch.optim.Adam
    t.__init__(t.model, t.loss, t.batches, kind(t.model.parameters(), 1e-3, weight_decay=value), t.classes, t.dims)


def uncleared(t, told, r):
    t.optimiser.zero_grad = lambda *a, **k: None


def clipped(t, told, r):
    t.__init__(t.model, t.loss, t.batches, torch.optim.SGD(t.model.parameters(), 1e-2), t.classes, t.dims)
    t.clip = float(r.choice([1e-6, 1e-8]))


def batch_train(t, told, r):
    def always(self, mode=True):
        return nn.Module.train(self, True)

    norms = [m for m in t.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if r.random() < 0.5:
        for m in norms:
            m.track_running_stats, m.running_mean, m.running_var = False, None, None
    else:
        for m in norms:
            m.train = types.MethodType(always, m)
            m.train()


def ignores(t, told, r):
    scale = float(r.choice([0.0, 0.0]))
    old = t.model.forward
    t.model.forward = lambda image: old(image * scale)


def eval_dropout(t, told, r):
    t.model.decoder.register_forward_hook(lambda m, i, o: F.dropout(o, 0.2, training=True))


def lost(*names):
    def fault(t, told, r):
        name = str(r.choice(list(names)))
        old = t.save
        t.save = lambda: {key: value for key, value in old().items() if key != name}

        def load(saved):
            saved = copy.deepcopy(saved)
            for one in ("model", "optimiser", "schedule", "average"):
                if one in saved:
                    getattr(t, one).load_state_dict(saved[one])
            if "generator" in saved:
                t.generator.set_state(saved["generator"])
            t.cursor, t.best = saved.get("cursor", t.cursor), saved.get("best", t.best)

        t.load = load

    return fault


def data(change):
    def fault(t, told, r):
        t.batches = [(*change(one[0], one[1], r, number), *one[2:]) for number, one in enumerate(t.batches)]

    return fault


def turned(x, y, r, n):
    dims = y.ndim - (1 if y.shape[1] == 1 and y.ndim == x.ndim else 0)
    axes = list(range(-(dims - 1), 0))
    if r.random() < 0.5:
        return x.flip(int(r.choice(axes))), y
    return x.transpose(-1, -2), y


def turned_same(t, told, r):
    axis = int(r.choice([-1, -2]))
    transposed = r.random() < 0.5
    t.batches = [((x.transpose(-1, -2) if transposed else x.flip(axis)), *rest) for x, *rest in t.batches]


def shifted(t, told, r):
    axis, distance = int(r.choice([-1, -2])), int(r.choice([3, 4, 6, -3, -5]))
    t.batches = [(x.roll(distance, axis), *rest) for x, *rest in t.batches]


def grey(t, told, r):
    how = str(r.choice(["nothing", "loud", "loud8", "constant", "nan"]))
    change = {
        "nothing": lambda x: x * 1e-5, "loud": lambda x: (x - x.min()) / (x.max() - x.min()) * 65535,
        "loud8": lambda x: (x - x.min()) / (x.max() - x.min()) * 255, "constant": lambda x: x * 0 + 1,
        "nan": lambda x: x / 0 * 0,
    }[how]  # fmt: skip
    t.batches = [(change(x), *rest) for x, *rest in t.batches]


def values(t, told, r):
    how = str(r.choice(["255", "127", "blur", "empty", "inverted", "small"]))

    def change(y):
        if how == "255":
            return y * 255
        if how == "127":
            return torch.where(torch.rand(y.shape) < 0.2, torch.full_like(y, 127), y)
        if how == "blur":
            return (y.float() + y.float().roll(1, -1)) / 2
        if how == "small":
            return y.float() / 255
        return y * 0 if how == "empty" else 1 - y

    t.batches = [(x, change(y), *rest) for x, y, *rest in t.batches]


def predicting(kind):
    def fault(t, told, r):
        t.size = 43
        if kind == "hole":
            step = int(r.choice([18, 20, 24]))
            t.starts = lambda length: [*range(0, length - t.tile, step), length - t.tile]
        elif kind == "border":
            step = int(r.choice([8, 12, 16]))
            t.starts = lambda length: list(range(0, length - t.tile - 4, step))
        elif kind == "seams":
            t.size, t.starts = 48, lambda length: list(range(0, length, t.tile))
        elif kind == "order":
            old = t.logits
            t.logits = lambda tile: old(tile).transpose(-1, -2)
        elif kind == "eval":

            def predict(volume):
                with torch.no_grad():
                    t.model.train()
                    out = t.logits(normalised(np.asarray(volume, np.float32)))
                return out.sigmoid().numpy()

            t.predict = predict
        elif kind == "normalise":
            old = t.logits
            scale = float(r.choice([100.0, 255.0, 0.01]))
            t.logits = lambda tile: old(tile * scale + (scale if scale > 1 else 0))
            random = np.random.default_rng(1)
            t.volume = (random.normal(size=(40,) * t.dims) * 40 + 120).clip(0, 255).astype(np.uint8)
        elif kind == "threshold":
            t.logits_of = t.logits
            level = float(r.choice([0.5, 0.8, 0.3]))

            def predict(volume):
                t.model.eval()
                with torch.no_grad():
                    return (t.logits(normalised(np.asarray(volume, np.float32))) > level).numpy().astype(np.uint8)

            t.predict = predict
        elif kind == "double":
            old = t.logits
            t.logits = lambda tile: old(tile).sigmoid()

    return fault


F_ = dict
FAULTS = {
    "head_binary": (head_binary, F_(loss=BINARY), ("P8",)),
    "head_classes": (head_classes, F_(loss=CLASSES), ("P8",)),
    "head_axis": (head_axis, F_(loss=CLASSES), ("P8",)),
    "head_missing": (head_missing, F_(loss=("bce",)), ("P8",)),
    "head_nll": (head_nll, F_(loss=("ce",)), ("P8",)),
    "ignore_unmasked": (ignored("unmasked"), F_(loss=("ignoring",)), ("P1", "P2")),
    "ignore_term": (ignored("term"), F_(loss=("ignoring",)), ("P1", "P2")),
    "ignore_inverted": (ignored("inverted"), F_(loss=("ignoring",)), ("P1", "P2")),
    "ignore_diluted": (ignored("diluted"), F_(loss=("ignoring",)), ("P1", "P2")),
    "detached": (changed(detached), F_(loss=("bce",)), ("P5", "P6", "P8")),
    "rounded": (changed(rounded), F_(loss=("bce",)), ("P5", "P6", "P8")),
    "all_rounded": (changed(all_rounded), F_(loss=("bce",)), ("P5", "P8")),
    "flipped": (changed(flipped), F_(loss=("bce",)), ("P5",)),
    "all_flipped": (changed(all_flipped), F_(loss=("bce",)), ("P5",)),
    "temperature": (changed(temperature), F_(loss=("bce",)), ("P3", "P5")),
    "summed": (changed(summed), F_(loss=("bce",)), ("P8", "P10")),
    "first_only": (changed(first_only), F_(loss=("bce",)), ("P8",)),
    "constant": (changed(constant), F_(loss=("bce",)), ("P4",)),
    "not_truth": (changed(not_truth), F_(loss=("bce",)), ("P5",)),
    "later_module": (changed(later("module")), F_(loss=("bce",)), ("P6",)),
    "later_closure": (changed(later("closure")), F_(loss=("bce",)), ("P6",)),
    "later_epoch": (changed(later("epoch")), F_(loss=("bce",)), ("P6",)),
    "wrong_weights": (changed(wrong_weights), F_(loss=("bce",)), ("P3",)),
    "half_optimiser": (half_optimiser, F_(), ("P8",)),
    "other_optimiser": (other_optimiser, F_(), ("P8",)),
    "frozen": (frozen, F_(), ("P8",)),
    "no_gradient": (no_gradient, F_(), ("P8",)),
    "rate": (rate, F_(), ("P10",)),
    "decay": (decay, F_(), ("P10",)),
    "uncleared": (uncleared, F_(), ("P8",)),
    "clipped": (clipped, F_(), ("P10",)),
    "batch_train": (batch_train, F_(norm=("batch",)), ("P8",)),
    "ignores": (ignores, F_(), ("P8",)),
    "eval_dropout": (eval_dropout, F_(), ("P8",)),
    "lost": (lost("model", "optimiser", "schedule", "average", "cursor", "best", "generator"), F_(), ("P8",)),
    "turned": (data(turned), F_(), ("P7",)),
    "turned_same": (turned_same, F_(), ("P7",)),
    "shifted": (shifted, F_(), ("P7",)),
    "grey": (grey, F_(), ("P7",)),
    "values": (values, F_(loss=("bce", "bce_dice")), ("P1", "P2", "P7")),
    "hole": (predicting("hole"), F_(), ("P8",)),
    "border": (predicting("border"), F_(), ("P8",)),
    "seams": (predicting("seams"), F_(), ("P8",)),
    "order": (predicting("order"), F_(), ("P8",)),
    "eval": (predicting("eval"), F_(norm=("batch",)), ("P8",)),
    "normalise": (predicting("normalise"), F_(), ("P7", "P8")),
    "threshold": (predicting("threshold"), F_(), ("P3",)),
    "double": (predicting("double"), F_(), ("P8",)),
}
"""The change, from what the set-up is drawn, and the codes that fit."""


def faulty(name, seed, **more):
    """A set-up with a fault: parts, what else is told, the codes that fit, and a description."""
    change, fixed, codes = FAULTS[name]
    random = np.random.default_rng([seed, len(name)])
    drawn = {key: str(random.choice(list(options))) for key, options in fixed.items()}
    trainer, told, words = healthy(seed, deep=name in ("head_binary",) and bool(random.random() < 0.2), **drawn, **more)
    change(trainer, told, random)
    parts = trainer.parts() | told
    if hasattr(trainer, "size") and not hasattr(trainer, "volume"):
        trainer.volume = random.normal(size=(trainer.size,) * trainer.dims).astype(np.float32)
    if hasattr(trainer, "volume"):
        parts["volume"] = trainer.volume
    return parts, codes, words


__all__ = ["FAULTS", "Net", "faulty"]
