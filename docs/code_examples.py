"""The code of docs/audit-your-code.md: a bare PyTorch training and one with MONAI, each audited.

`tests/integration/test_code_examples.py` runs every function and holds the page to their text.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import volumen


def bare() -> None:
    # Your script, up to the training loop ---------------------------------------------------------
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True), nn.ReLU(), nn.Conv3d(8, 1, 1)
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = functional.binary_cross_entropy_with_logits

    label = torch.zeros(2, 1, 24, 24, 24)
    label[:, :, 4:7], label[:, :, 15:17] = 1, 1
    image = label + 0.5 * torch.randn(label.shape)
    batches = [((image - image.mean()) / image.std(), label)]

    def predict(volume: np.ndarray) -> np.ndarray:
        model.eval()
        tile = torch.from_numpy(volume)[None, None].float()
        with torch.no_grad():
            return model((tile - tile.mean()) / tile.std()).sigmoid()[0, 0].numpy()

    # The audit -----------------------------------------------------------------------------------
    report = volumen.audit_code(model=model, loss=loss, batches=batches, optimiser=optimiser, predict=predict)
    print(report)
    assert not report.stops

    # The same with a mistake: the network ends in a sigmoid, and the loss has another --------------
    report = volumen.audit_code(model=nn.Sequential(model, nn.Sigmoid()), loss=loss, batches=batches)
    assert report.findings[0].title == "the network ends in an activation, and the loss has another"


def steps() -> None:
    class Training:
        """Whatever changes in a training, in one object."""

        def __init__(self) -> None:
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
            self.optimiser = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
            self.epoch = 0

        def step(self, image: torch.Tensor, target: torch.Tensor) -> None:
            self.model.train()
            self.optimiser.zero_grad()
            functional.cross_entropy(self.model(image), target, ignore_index=255).backward()
            self.optimiser.step()

        def save(self) -> dict:
            return {"model": {key: value.clone() for key, value in self.model.state_dict().items()}}

        def load(self, saved: dict) -> None:
            self.model.load_state_dict(saved["model"])

    training = Training()
    target = torch.zeros(2, 32, 32, dtype=torch.long)
    target[:, 5:9], target[:, 20:24], target[:, :, 28:] = 1, 1, 255  # 255: nobody looked there
    image = (target == 1).float().unsqueeze(1) + 0.3 * torch.randn(2, 1, 32, 32)
    report = volumen.audit_code(
        model=training.model,
        batches=[(image, target)],
        optimiser=training.optimiser,
        step=training.step,
        save=training.save,
        load=training.load,
        ignore_index=255,
    )
    assert "optimiser's state" in report.findings[0].title  # momentum is not in what is saved
    report.write_page("audit.html")


def monai() -> None:
    from monai.data import DataLoader, Dataset
    from monai.inferers import sliding_window_inference
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    label = np.zeros((1, 32, 32, 32), np.float32)
    label[:, 6:9], label[:, 20:22] = 1, 1
    cases = [
        {"image": (label + 0.4 * np.random.default_rng(n).normal(size=label.shape)).astype(np.float32), "label": label}
        for n in range(2)
    ]
    loader = DataLoader(Dataset(cases), batch_size=2)
    model = UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,))

    def predict(volume: np.ndarray) -> np.ndarray:
        model.eval()
        with torch.no_grad():
            tile = torch.from_numpy(volume)[None, None].float()
            logits = sliding_window_inference(tile, (16, 16, 16), 4, model, overlap=0.5, mode="gaussian")
        return logits.softmax(1)[0, 1].numpy()

    report = volumen.audit_code(
        model=model,
        loss=DiceCELoss(to_onehot_y=True, softmax=True),
        batches=loader,  # mappings: "image" and "label" are known names, others are told with image_key=
        optimiser=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
        predict=predict,
        volume=cases[0]["image"][0],
    )
    assert not report.stops

    # DiceCELoss() without softmax=True takes logits for probabilities in its Dice ------------------
    report = volumen.audit_code(model=model, loss=DiceCELoss(to_onehot_y=True), batches=loader)
    assert report.findings[0].title == "a part of the loss takes logits for probabilities"


EXAMPLES = (bare, steps, monai)
