"""Trackers are named, or refused with what to do, before anything is imported."""

import importlib.util
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.errors import UserError
from volumen.trackers import choice
from volumen.trackers.choice import NONE, TRACKERS, chosen_trackers

INSTALLED = st.lists(st.sampled_from(sorted(TRACKERS)), min_size=1)


@given(INSTALLED)
def test_each_is_chosen_once_in_the_order_named(names):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: name)
        assert list(chosen_trackers([f" {name} " for name in names])) == list(dict.fromkeys(names))


def test_none_is_none():
    assert chosen_trackers([NONE]) == {}


@settings(max_examples=30)
@given(st.lists(st.text(max_size=12).filter(lambda name: name.strip() not in TRACKERS)))
def test_other_names_are_refused(names):
    if [name.strip() for name in names if name.strip()] not in ([NONE], [NONE, NONE]):
        with pytest.raises(UserError, match="--track takes"):
            chosen_trackers(names)


@pytest.mark.parametrize("name", sorted(choice._NEEDS))
def test_a_missing_library_is_refused_with_its_command(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"pip install 'volumen\[{name}\]'"):
        chosen_trackers(["tensorboard", name])


def test_choosing_imports_no_library():
    code = (
        "import importlib.util, sys; from volumen.trackers.choice import chosen_trackers\n"
        f"importlib.util.find_spec = lambda name: name; chosen_trackers({sorted(TRACKERS)})\n"
        "print([name for name in ('tensorboard', 'wandb', 'mlflow', 'trackio') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
