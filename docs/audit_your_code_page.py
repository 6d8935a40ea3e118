"""The page of the tutorial, from the examples that a test runs."""

# ruff: noqa: E501
import inspect
import textwrap

import code_examples

TEXT = """# Audit your code

*The code of this page is `docs/code_examples.py`, which a test runs; the page is made by `./run docs`. Do not edit.*

`volumen.audit_code` looks at a training of segmentation in any PyTorch code before it starts: not at a configuration, at
the parts themselves. Hand over what you have; what is missing for a check is said. It takes seconds to a minute on a
CPU, trains a few steps at most, and gives everything back as it was, bit for bit: weights, gradients, modes, optimiser,
random numbers.

## A bare PyTorch script

```python
{bare}
```

`report` holds findings as [`volumen audit`](audit.md) has them, gravest first: code, severity, title, evidence, causes,
remedies. `print(report)` shows them and what was done, `report.to_dict()` gives plain values, and
`report.write_page("audit.html")` writes a page.

## Steps of your own, ignored voxels, saving and loading

```python
{steps}
```

`save()` and `load(saved)` are called as a resumed training would: a few steps, save, back to the state before them, load.
What had changed and did not come back is named. Averages, a loss scale or counters that no part reaches are handed over
with `also=`.

## MONAI

```python
{monai}
```

## The parts

| part | form | what is looked at |
| --- | --- | --- |
| `model` | a module in 2-D or 3-D, one output or several | the range of its output, gradients, batch, evaluation mode |
| `loss` | `loss(output, target)`, `loss(output, target, valid)`, with `epoch=` where it has one | what it asks for, on free logits: truth, opposite, constants, its own optimum, its gradient, samples, ignored voxels, later values |
| `batches` | pairs, triples or mappings of tensors | grey values, label values, whether labels lie where images say |
| `raw` | (image, label) as the files hold them | whether the first patch and its label come from one place |
| `optimiser` | an instance, or a function of parameters | what it holds, rates, weight decay |
| `step` | one training step | size of the change, clipping, gradients that are not cleared |
| `save`, `load` | a round trip | what a resumed training loses |
| `predict` | volume to mask or probabilities | evaluation mode, normalisation, tiles, threshold |

Say what is meant: `ignore_index=255`, `frozen=("encoder",)`, `threshold=0.3`, `image_key="ct"`. Whether a loss takes
logits or probabilities is measured, not asked.

## What it cannot see

- Batches are read once, up to 16 samples; an iterator that is already running is consumed. Hand over a loader or a list.
- Steps are restored through what the parts reach: attributes, containers, closures, globals that functions name. Files
  that a step writes, and other processes, are not.
- An oblique mistake of the data, such as labels of another case in one of a hundred volumes, needs the volumes: see
  [audit.md](audit.md).
"""


def code_page() -> str:
    """The page."""
    return TEXT.format(**{one.__name__: _body(one.__name__) for one in code_examples.EXAMPLES})


def _body(name: str) -> str:
    source = inspect.getsource(getattr(code_examples, name))
    return textwrap.dedent(source.partition("\n")[2]).rstrip()
