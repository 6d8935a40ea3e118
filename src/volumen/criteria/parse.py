"""From text to a criterion, by recursive descent; whatever is wrong is an error at its place."""

import math
from typing import NoReturn, cast

from volumen.criteria.grammar import (
    All,
    Amount,
    AnyOf,
    Comparison,
    Criterion,
    Improves,
    NoChange,
    Not,
    OfParent,
    Operator,
    When,
    Within,
)
from volumen.criteria.quantities import UNITS, Dimension, Quantity, near, quantity_of, suggestion
from volumen.criteria.tokens import CriterionError, Token, tokens_of

LARGEST, MOST_EPOCHS, DEEPEST = 1e12, 1_000_000, 30
KEYWORDS = (
    "and", "or", "not", "no", "by", "at", "in", "from", "over", "within", "improves", "drop", "rise", "parent", "epoch",
    "epochs", "the", "end", "best",
)  # fmt: skip
_WHENS = "by epoch N, at epoch N, from epoch N, in epochs A..B, at the end, at best"


def parse_criterion(text: str) -> Criterion:
    """Read a criterion.

    Raises:
        CriterionError: It is none; the message points at the place and says what would be right.
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.place, self.depth = text, tokens_of(text), 0, 0

    @property
    def next(self) -> Token:
        return self.tokens[self.place]

    @property
    def at_end(self) -> bool:
        return self.place == len(self.tokens) - 1

    def fail(self, reason: str, at: Token | None = None) -> NoReturn:
        token = at or self.next
        raise CriterionError(self.text, token.start, reason, max(1, len(token.text)))

    def found(self) -> str:
        return repr(self.next.text) if self.next.text else "the end"

    def take(self, *texts: str) -> Token | None:
        """The next token where it is one of these words or signs."""
        token = self.next
        if token.kind in ("word", "sign") and token.text in texts:
            self.place += 1
            return token
        return None

    def expect(self, text: str, for_what: str) -> Token:
        token = self.take(text)
        if token is None:
            self.fail(f"{text!r} is expected {for_what}, not {self.found()}")
        return token

    def whole(self) -> Criterion:
        if self.at_end:
            self.fail("a criterion is expected, such as val.loss < 0.45 by epoch 20")
        criterion = self.either()
        if not self.at_end:
            self.complain_of_rest()
        return criterion

    def complain_of_rest(self) -> NoReturn:
        token = self.next
        if token.text == ")":
            self.fail("this parenthesis was never opened: remove it, or open it before")
        close = near(token.text, ("and", "or", "by", "at", "in", "from", "over")) if token.kind == "word" else []
        hint = f"did you mean {close[0]}? " if close else ""
        self.fail(f"{self.found()} is not expected here: {hint}what may follow is a time ({_WHENS}), and, or")

    def either(self) -> Criterion:
        parts = [self.all_of()]
        while self.take("or"):
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def all_of(self) -> Criterion:
        parts = [self.one()]
        while self.take("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def one(self) -> Criterion:
        token = self.next
        if token.text not in ("not", "("):
            return self.statement()
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"more than {DEEPEST} parentheses or nots inside each other: make two criteria of it")
        self.place += 1
        if token.text == "not":
            criterion: Criterion = Not(self.one())
        else:
            criterion = self.either()
            if not self.take(")"):
                self.fail(f"')' is expected, for the parenthesis at character {token.start + 1}, not {self.found()}")
        self.depth -= 1
        return criterion

    def statement(self) -> Criterion:
        if self.take("no"):
            return self.no_change()
        name, quantity = self.quantity()
        token = self.next
        if self.take("<", "<=", ">", ">="):
            bound = self.bound(quantity)
            return Comparison(name, cast(Operator, token.text), bound, self.when())
        if self.take("within"):
            low = self.amount(quantity)
            self.expect("..", "between the ends of a range, as in within 0.3..0.7")
            start = self.next
            high = self.amount(quantity)
            if high.value < low.value:
                self.fail("the second end of the range is below the first: exchange them", start)
            return Within(name, low, high, self.when())
        if self.take("improves"):
            return self.improves(name, quantity, self.tokens[self.place - 2])
        close = near(token.text, ("within", "improves")) if token.kind == "word" else []
        hint = (
            f"did you mean {close[0]}?" if close else "write <, <=, >, >=, within A..B or improves by X over N epochs"
        )
        if token.text in ("drop", "rise"):
            hint = f"write no before {name}"
        return self.fail(f"a comparison is expected after {name}, not {self.found()}: {hint}")

    def quantity(self) -> tuple[str, Quantity]:
        token = self.next
        if token.kind != "word" or token.text in KEYWORDS:
            self.fail(f"a quantity is expected, such as val.loss, val.dice or epoch_time, not {self.found()}")
        found = quantity_of(token.text)
        if found is None:
            self.fail(f"there is no quantity {token.text!r}: {suggestion(token.text)}")
        self.place += 1
        return token.text, found

    def bound(self, quantity: Quantity) -> Amount | OfParent:
        if not self.take("parent"):
            return self.amount(quantity)
        sign = self.take("+", "-")
        if sign is None:
            return OfParent()
        amount = self.amount(quantity, signed=False)
        return OfParent(Amount(-amount.number if sign.text == "-" else amount.number, amount.unit))

    def no_change(self) -> NoChange:
        name, quantity = self.quantity()
        direction = self.take("drop", "rise")
        if direction is None:
            self.fail(f"'drop' or 'rise' is expected, not {self.found()}: write no {name} drop > 0.01")
        sign = self.take(">", ">=")
        if sign is None:
            self.fail(f"'>' is expected, not {self.found()}: write no {name} {direction.text} > 0.01")
        amount = self.amount(quantity, signed=False)
        epochs = over = None
        if self.take("in"):
            epochs = self.range_of_epochs()
        if self.take("over"):
            over = self.count()
        return NoChange(name, direction.text, sign.text, amount, epochs, over)  # type: ignore[arg-type]

    def improves(self, name: str, quantity: Quantity, at: Token) -> Improves:
        if quantity.better is None:
            self.fail(f"neither more nor less of {name} is better, so it cannot improve: compare it with < or >", at)
        self.expect("by", "after 'improves', as in improves by 0.01 over 10 epochs")
        amount = self.amount(quantity, signed=False)
        self.expect("over", "and a number of epochs, as in over 10 epochs")
        return Improves(name, amount, self.count())

    def amount(self, quantity: Quantity, *, signed: bool = True) -> Amount:
        minus = self.take("-") if signed else None
        token = self.next
        if token.kind != "number":
            word = f": write {token.text[1:]}" if token.text in ("+",) else ""
            self.fail(f"a number is expected, not {self.found()}{word}")
        number = float(token.text)
        if not (math.isfinite(number) and number <= LARGEST):
            self.fail(f"numbers up to {LARGEST:g} are allowed")
        self.place += 1
        return Amount(-number if minus else number, self.unit(quantity, token))

    def unit(self, quantity: Quantity, number: Token) -> str:
        allowed, token = UNITS[quantity.dimension], self.next
        any_unit = {unit for units in UNITS.values() for unit in units if unit}
        if token.text in allowed and token.text:
            self.place += 1
            return token.text
        after = self.tokens[min(self.place + 1, len(self.tokens) - 1)].text
        misspelt = near(token.text, KEYWORDS) or after in ("epoch", "epochs", "the", "best") or "." in token.text
        is_word = token.kind == "word" and token.text not in KEYWORDS and not misspelt
        if token.text in any_unit or is_word:
            known = [unit for unit in allowed if unit]
            right = f"write {' or '.join(known)}" if known else "write the number alone"
            if quantity.dimension is Dimension.share:
                right = "write % or the number alone"
            self.fail(f"{token.text!r} is no unit of {quantity.name}, which is {quantity.dimension}: {right}")
        if "" not in allowed:
            written = " or ".join(f"{number.text} {unit}" for unit in allowed)
            self.fail(f"{quantity.name} is {quantity.dimension} and needs a unit: write {written}", number)
        return ""

    def when(self) -> When | None:
        token = self.take("by", "at", "from", "in")
        if token is None:
            return None
        if token.text == "in":
            return When("in", *self.range_of_epochs())
        if token.text == "at":
            if self.take("best"):
                return When("best")
            if self.take("the"):
                self.expect("end", "after 'at the'")
                return When("end")
        if not self.take("epoch"):
            others = " (or at the end, at best)" if token.text == "at" else ""
            self.fail(f"'epoch' and its number are expected after {token.text!r}{others}, not {self.found()}")
        return When(token.text, self.epoch())  # type: ignore[arg-type]

    def range_of_epochs(self) -> tuple[int, int]:
        self.expect("epochs", "after 'in', as in epochs 3..6")
        first = self.epoch()
        self.expect("..", "between the first and the last epoch, as in epochs 3..6")
        at = self.next
        last = self.epoch()
        if last < first:
            self.fail("the last epoch is before the first: exchange them", at)
        return first, last

    def count(self) -> int:
        number = self.epoch("a number of epochs")
        if not self.take("epochs", "epoch"):
            self.fail(f"'epochs' is expected after the number, not {self.found()}")
        return number

    def epoch(self, what: str = "an epoch") -> int:
        token = self.next
        if token.kind != "number" or not token.text.isdigit():
            self.fail(f"{what} is a whole number, not {self.found()}")
        if not 1 <= float(token.text) <= MOST_EPOCHS:
            from_one = "epochs are counted from 1, as a run prints them" if int(token.text[:9]) == 0 else ""
            self.fail(f"{what} lies within 1..{MOST_EPOCHS}" + (f": {from_one}" if from_one else ""))
        self.place += 1
        return int(token.text)
