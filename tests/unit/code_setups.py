"""Small trainings in plain PyTorch, healthy ones and ones with a fault, drawn over variants."""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from volumen.doctor.code.probe import sheets

NORMS = {
    "batch": lambda dims, width: (nn.BatchNorm3d if dims == 3 else nn.BatchNorm2d)(width),
    "instance": lambda dims, width: (nn.InstanceNorm3d if dims == 3 else nn.InstanceNorm2d)(width, affine=True),
    "group": lambda dims, width: nn.GroupNorm(2, width),
}


class Net(nn.Module):
    """A U-Net of two levels, with heads on both where they are asked for, and an activation at its end."""

    def __init__(self, dims=3, norm="instance", classes=1, deep=False, dropout=0.0, width=4, end=None):
        super().__init__()
        conv = nn.Conv3d if dims == 3 else nn.Conv2d
        drop = nn.Dropout3d if dims == 3 else nn.Dropout2d

        def block(one, other, stride=1):
            layers = [conv(one, other, 3, stride, 1), NORMS[norm](dims, other), nn.LeakyReLU(0.1), drop(dropout)]
            return nn.Sequential(*layers)

        self.encoder = nn.ModuleList([block(1, width), block(width, 2 * width, 2)])
        self.bottom = block(2 * width, 2 * width)
        self.decoder = block(3 * width, width)
        self.head = conv(width, classes, 1)
        self.deep_head = conv(2 * width, classes, 1) if deep else None
        self.end, self.mode = end, "trilinear" if dims == 3 else "bilinear"

    def forward(self, image):
        fine = self.encoder[0](image)
        coarse = self.bottom(self.encoder[1](fine))
        up = F.interpolate(coarse, size=fine.shape[2:], mode=self.mode)
        output = self.head(self.decoder(torch.cat([fine, up], 1)))
        output = output if self.end is None else self.end(output)
        return [output, self.deep_head(coarse)] if self.deep_head is not None else output


def dice(chance, target, valid=None):
    """Soft Dice loss per sample of probabilities [N, C, ...] and a target of the same shape."""
    valid = torch.ones_like(target) if valid is None else valid
    axes = tuple(range(2, chance.ndim))
    both = (chance * target * valid).sum(axes)
    return (1 - (2 * both + 1e-3) / ((chance * valid).sum(axes) + (target * valid).sum(axes) + 1e-3)).mean()


def onehot(target, classes):
    """[N, ...] to [N, K, ...]."""
    return F.one_hot(target.long().clamp(0, classes - 1), classes).movedim(-1, 1).float()


def bce_dice(logits, target):
    return F.binary_cross_entropy_with_logits(logits, target) + dice(logits.sigmoid(), target)


def focal(logits, target, gamma=2.0, alpha=0.25):
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    chance = torch.exp(-cross)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * (1 - chance) ** gamma * cross).mean()


def tversky(logits, target, alpha=0.3, beta=0.7):
    p = logits.sigmoid()
    both, false, missed = (p * target).sum(), (p * (1 - target)).sum(), ((1 - p) * target).sum()
    return 1 - (both + 1) / (both + alpha * false + beta * missed + 1)


def ce_dice(logits, target):
    classes = logits.shape[1]
    return F.cross_entropy(logits, target) + dice(logits.softmax(1)[:, 1:], onehot(target, classes)[:, 1:])


def ignoring(logits, target):
    """Cross-entropy and Dice that leave 255 out."""
    valid = (target != 255).float().unsqueeze(1)
    known = torch.where(target == 255, 0, target)
    chances = logits.softmax(1)[:, 1:]
    return F.cross_entropy(logits, target, ignore_index=255) + dice(
        chances, onehot(known, logits.shape[1])[:, 1:], valid.expand_as(chances)
    )


def masked(logits, target, valid):
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    valid = valid.to(cross)
    return (cross * valid).sum() / valid.sum().clamp(min=1) + dice(logits.sigmoid(), target, valid)


def deep(loss):
    """A loss of several heads: targets by nearest neighbours, weights 1 and 0.5."""

    def summed(outputs, target):
        if isinstance(outputs, torch.Tensor):
            return loss(outputs, target)
        total = 0.0
        for number, output in enumerate(outputs):
            at = target if target.ndim == output.ndim else target.unsqueeze(1)
            small = F.interpolate(at.float(), size=output.shape[2:], mode="nearest").to(target.dtype)
            total = total + loss(output, small if target.ndim == output.ndim else small[:, 0]) * 0.5**number
        return total

    return summed


LOSSES = {
    "bce": ("binary", F.binary_cross_entropy_with_logits),
    "pos_weight": ("binary", nn.BCEWithLogitsLoss(pos_weight=torch.tensor(6.0))),
    "bce_dice": ("binary", bce_dice),
    "focal": ("binary", focal),
    "tversky": ("binary", tversky),
    "masked": ("masked", masked),
    "ce": ("classes", nn.CrossEntropyLoss()),
    "ce_smooth": ("classes", nn.CrossEntropyLoss(label_smoothing=0.1)),
    "ce_dice": ("classes", ce_dice),
    "ce_ignore": ("ignore", nn.CrossEntropyLoss(ignore_index=255)),
    "ignoring": ("ignore", ignoring),
}


def batches_of(kind, dims, side, classes, seed, count=3, size=2):
    """Pairs of image and target of wavy sheets in noise."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        truth = np.stack([sheets((side,) * dims, classes, seed * 100 + number * 10 + one) for one in range(size)])
        image = 0.8 * (truth > 0) + random.normal(size=truth.shape) * random.uniform(0.3, 0.6)
        image = torch.from_numpy(((image - image.mean()) / image.std()).astype(np.float32)).unsqueeze(1)
        label = torch.from_numpy(truth)
        if kind in ("binary", "masked"):
            label = label.float().unsqueeze(1)
        if kind == "masked":
            valid = torch.from_numpy(random.random(truth.shape) > 0.4).unsqueeze(1)
            found.append((image, label, valid))
            continue
        if kind == "ignore":
            label = torch.where(torch.from_numpy(random.random(truth.shape) < 0.3), 255, label)
        found.append((image, label))
    return found


def normalised(volume):
    return (volume - volume.mean()) / max(float(volume.std()), 1e-6)


@dataclass
class Trainer:
    """A training with all its state."""

    model: nn.Module
    loss: object
    batches: list
    optimiser: object
    classes: int = 1
    dims: int = 3
    tile: int = 16
    epoch: int = 0
    cursor: int = 0
    best: float = -1e9
    clip: float = 12.0
    schedule: object = None
    average: nn.Module = None
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def __post_init__(self):
        self.average = copy.deepcopy(self.model)
        if self.schedule is None:
            self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: (1 - step / 1000) ** 0.9)

    def step(self):
        self.model.train()
        image, target, *valid = self.batches[self.cursor % len(self.batches)]
        image = image + 0.05 * torch.randn(image.shape, generator=self.generator)
        self.optimiser.zero_grad()
        loss = self.loss(self.model(image), target, *valid)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimiser.step()
        self.schedule.step()
        with torch.no_grad():
            for mean, one in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(one, 0.1)
        self.cursor += 1
        self.best = max(self.best, -float(loss.detach()))
        return float(loss.detach())

    def save(self):
        return copy.deepcopy(
            {
                "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "cursor": self.cursor,
                "schedule": self.schedule.state_dict(), "average": self.average.state_dict(), "best": self.best,
                "generator": self.generator.get_state(),
            }
        )  # fmt: skip

    def load(self, saved):
        saved = copy.deepcopy(saved)
        for name in ("model", "optimiser", "schedule", "average"):
            if name in saved:
                getattr(self, name).load_state_dict(saved[name])
        if "generator" in saved:
            self.generator.set_state(saved["generator"])
        self.cursor, self.best = saved.get("cursor", self.cursor), saved.get("best", self.best)

    def logits(self, tile):
        output = self.model(torch.from_numpy(np.ascontiguousarray(tile))[None, None].float())
        output = output[0] if isinstance(output, list) else output
        return output[0, 0] if self.classes == 1 else output[0, 1] - output[0, 0]

    def starts(self, length):
        step = self.tile // 2
        places = list(range(0, max(length - self.tile, 0) + 1, step))
        return places if places[-1] + self.tile >= length else [*places, length - self.tile]

    def predict(self, volume):
        self.model.eval()
        shown = normalised(np.asarray(volume, np.float32))
        total, weight = np.zeros(shown.shape, np.float32), np.zeros(shown.shape, np.float32)
        with torch.no_grad():
            for origin in np.ndindex(*[len(self.starts(side)) for side in shown.shape]):
                at = [self.starts(side)[number] for number, side in zip(origin, shown.shape, strict=True)]
                window = tuple(slice(one, one + self.tile) for one in at)
                total[window] += self.logits(shown[window]).sigmoid().numpy()
                weight[window] += 1
        return self.finish(total / np.maximum(weight, 1e-6))

    def finish(self, chances):
        return chances

    def parts(self):
        """As `audit_code` takes them."""
        return {
            "model": self.model, "loss": self.loss, "batches": self.batches, "optimiser": self.optimiser,
            "step": self.step, "save": self.save, "load": self.load, "predict": self.predict, "schedule": self.schedule,
        }  # fmt: skip


def healthy(seed, **fixed):
    """A drawn set-up: the trainer, and what else `audit_code` is told."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    name = fixed.get("loss") or random.choice(list(LOSSES))
    kind, loss = LOSSES[str(name)]
    dims = fixed.get("dims") or int(random.choice([2, 3, 3]))
    classes = fixed.get("classes") or (1 if kind in ("binary", "masked") else int(random.choice([2, 2, 3])))
    side = int(random.choice([32, 48] if dims == 2 else [16, 24, 32]))
    several = fixed.get("deep", bool(random.random() < 0.3)) and kind in ("binary", "classes")
    model = Net(
        dims, str(fixed.get("norm") or random.choice(list(NORMS))), classes, several,
        float(random.choice([0.0, 0.0, 0.2])), int(random.choice([4, 8])),
    )  # fmt: skip
    frozen = ("encoder",) if not fixed and random.random() < 0.15 else ()
    for one in frozen:
        getattr(model, one).requires_grad_(False)
    groups = [one for one in model.parameters() if one.requires_grad]
    optimiser = {
        "sgd": lambda: torch.optim.SGD(groups, 1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5),
        "plain": lambda: torch.optim.SGD(groups, 0.05),
        "adam": lambda: torch.optim.Adam(groups, 1e-3),
        "adamw": lambda: torch.optim.AdamW(groups, 3e-4, weight_decay=1e-2),
        "groups": lambda: torch.optim.AdamW(
            [{"params": groups[:4], "lr": 1e-4}, {"params": groups[4:], "weight_decay": 0.0}], 1e-3
        ),
    }[str(random.choice(["sgd", "plain", "adam", "adamw", "groups"]))]()
    batches = batches_of(kind, dims, side, max(classes, 2), seed)
    trainer = Trainer(model, deep(loss) if several else loss, batches, optimiser, classes, dims, 16)
    told = {"frozen": frozen} | ({"ignore_index": 255} if kind == "ignore" else {})
    return (
        trainer,
        told,
        f"{name} {dims}D {side} C{classes} deep{several} frozen{bool(frozen)} {type(optimiser).__name__}",
    )
