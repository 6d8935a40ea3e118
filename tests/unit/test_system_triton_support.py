"""Whether Triton works is found by trying it, and said once where it does not."""

import pytest
import torch
from tests.interpreted import holds_interpreted, in_parent, on_devices

from volumen.system import triton_support


@in_parent
def test_the_laws_hold_in_the_interpreter():
    holds_interpreted(__file__)


@on_devices
def test_the_trial_finds_a_kernel_that_works(device):
    from volumen.system.triton_trial import trial

    trial(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_what_does_not_work_is_said_once(capsys):
    triton_support.has_triton.cache_clear()
    assert not triton_support.has_triton()
    assert not triton_support.has_triton()
    said = capsys.readouterr().err
    assert said.count("Triton does not work here") == 1
    assert said.count("\n") == 1
