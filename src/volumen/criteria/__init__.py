"""Criteria: when a run counts as a success, as text with a small grammar, held against its records.

    >>> from volumen.criteria import Records, judge, parse_criterion
    >>> criterion = parse_criterion("val.loss < 0.45 by epoch 20")
    >>> judge(criterion, Records({"val.loss": {3: 0.40}}, epochs=3, ended=True)).state.value
    'met'

`grammar` has the grammar, `quantities` what can be spoken of, `judging` how verdicts come about.
"""

from volumen.criteria.grammar import Criterion, ceiling_of, demands, known_quantity, statements
from volumen.criteria.judging import judge, judge_all
from volumen.criteria.parse import parse_criterion
from volumen.criteria.printing import print_criterion
from volumen.criteria.quantities import QUANTITIES, quantity_of
from volumen.criteria.records import Records
from volumen.criteria.tokens import CriterionError
from volumen.criteria.verdicts import SETTLED, State, Verdict

__all__ = [
    "QUANTITIES", "SETTLED", "Criterion", "CriterionError", "Records", "State", "Verdict", "ceiling_of", "demands",
    "judge", "judge_all", "known_quantity", "parse_criterion", "print_criterion", "quantity_of", "statements",
]  # fmt: skip
