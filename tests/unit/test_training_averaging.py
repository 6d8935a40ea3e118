"""Averages of weights: what they average, that they leave the model alone, and their normalisation statistics."""

import torch
from torch import nn

from volumen.config.optimisation import StochasticWeightAverage, WeightAverage, WeightNoise
from volumen.training.averaging import EqualAverage, MovingAverage, averaged_model
from volumen.training.noise import inject_noise, noise_is_due


def set_weight(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_moving_average_follows_its_recurrence():
    model = nn.Linear(1, 1, bias=False)
    set_weight(model, 0.0)
    average = MovingAverage(model, WeightAverage(decay=0.9))
    expected = 0.0
    for step in range(1, 200):
        set_weight(model, float(step))
        average.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(average.weights["weight"].item(), expected, rtol=1e-5, atol=0)


def test_equal_average_is_the_mean_of_the_due_epochs():
    model = nn.Linear(1, 1, bias=False)
    average = EqualAverage(model, StochasticWeightAverage(start_epoch=3, update_every_epochs=2))
    due = []
    for epoch in range(10):
        set_weight(model, float(epoch))
        due.append(average.after_epoch(model, epoch))
    assert [epoch for epoch, taken in enumerate(due) if taken] == [3, 5, 7, 9]
    assert average.weights["weight"].item() == 6.0


def test_averaged_model_puts_weights_and_statistics_back():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
    images = [torch.randn(4, 1, 3, 3, 3) * 5 + 2 for _ in range(3)]
    average = MovingAverage(model, WeightAverage())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average.weights["0.weight"] += 1.0
    with averaged_model(model, average, images):
        assert not torch.equal(model.state_dict()["0.weight"], before["0.weight"])
        assert not torch.equal(model.state_dict()["1.running_mean"], before["1.running_mean"])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert set(average.buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_refreshed_statistics_are_the_mean_over_the_batches():
    model = nn.Sequential(nn.BatchNorm3d(1))
    average = EqualAverage(model, StochasticWeightAverage())
    images = [torch.full((2, 1, 2, 2, 2), value) for value in (1.0, 2.0, 6.0)]
    with averaged_model(model, average, images):
        assert model[0].running_mean.item() == 3.0
        assert model[0].momentum == 0.1
    assert model[0].running_mean.item() == 0.0


def test_without_statistics_no_image_is_read():
    def explode():
        raise AssertionError("an image was read")
        yield

    model = nn.Sequential(nn.InstanceNorm3d(1))
    with averaged_model(model, EqualAverage(model, StochasticWeightAverage()), explode()):
        pass


def test_noise_is_due_every_so_many_epochs():
    settings = WeightNoise(start_epoch=4, every_epochs=3)
    assert [epoch for epoch in range(12) if noise_is_due(settings, epoch)] == [4, 7, 10]


def test_noise_has_the_stated_size_decays_and_repeats():
    settings = WeightNoise(start_epoch=0, every_epochs=1, std=0.1, decay=0.5, layers=("0.*",))

    def noisy(epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 100))
        before = [model[0].weight.detach().clone(), model[1].weight.detach().clone()]
        event = inject_noise(model, settings, seed=7, epoch=epoch)
        assert event["std"] == 0.1 * 0.5**epoch
        assert torch.equal(model[1].weight, before[1])  # not among the layers
        return model[0].weight.detach() - before[0], before[0]

    difference, weight = noisy(0)
    assert abs(float(difference.std() / weight.std()) - 0.1) < 0.005
    later, _ = noisy(1)
    assert abs(float(later.std() / weight.std()) - 0.05) < 0.0025
    assert torch.equal(noisy(0)[0], difference)
