"""R8 to R11: terms against each other, layers that do not learn, clipping and the learning rate, noise of gradients."""

from collections.abc import Iterator, Mapping, Sequence

from volumen.monitors.memory import Memory
from volumen.monitors.seen import EpochSeen, EventSeen, ProbeSeen, Seen
from volumen.monitors.sign import Sign
from volumen.monitors.statistics import median

CONFLICT_COSINE, CONFLICT_NORMS = -0.2, (0.1, 10.0)
DOMINATION, INERT = 0.9, 1e-3
LARGEST_UPDATE, SMALLEST_UPDATE = 0.1, 1.5e-4
DEAD_SHARE = 0.25
CLIPPED_SHARE, CLIPPED_EPOCHS = 0.5, 3
ALL_CLIPPED, TIGHT = 0.95, 20.0
AT_MINIMUM, FELL_FROM, LATEST_END = 0.01, 0.1, 0.8
"""Of the base rate, and of the run."""
BATCH_NOISE = 50.0
WRITERS = {"intervention", "rate_scaled", "rate_reduced", "rollback", "weight_noise"}
PROBES = 3


def terms(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R8: terms whose gradients on the outputs point against each other, or of which one counts alone or not at all."""
    if not isinstance(record, ProbeSeen) or len(memory.probes) < PROBES:
        return
    last = memory.probes[-PROBES:]
    for pair in record.term_cosine:
        one, _, other = pair.partition("|")
        cosine = median([probe.term_cosine[pair] for probe in last if pair in probe.term_cosine])
        masses = [median([probe.term_mass.get(name, 0.0) for probe in last]) for name in (one, other)]
        ratio = masses[0] / max(masses[1], 1e-12)
        if cosine < CONFLICT_COSINE and CONFLICT_NORMS[0] < ratio < CONFLICT_NORMS[1]:
            yield Sign(
                "R8", "conflict", "warn",
                f"the gradients of {one} and {other} on the outputs point against each other (cosine {cosine:.2f}), "
                f"and are of like size ({masses[0]:.0%} and {masses[1]:.0%} of the whole)",
                record.epoch, record.step, pair, {"cosine": cosine, "ratio": ratio},
            )  # fmt: skip
    if len(record.term_mass) < 2:
        return
    for name in record.term_mass:
        mass = median([probe.term_mass.get(name, 0.0) for probe in last])
        if mass > DOMINATION:
            said = f"{name} makes {mass:.1%} of the gradient on the outputs; the other terms hardly count"
            yield Sign("R8", "domination", "warn", said, record.epoch, record.step, name, {"mass": mass})
        elif mass < INERT:
            said = f"{name} makes {mass:.2%} of the gradient on the outputs: it is computed and does nothing"
            yield Sign("R8", "inert", "note", said, record.epoch, record.step, name, {"mass": mass})


def weights_of(values: Mapping[str, float]) -> dict[str, float]:
    """Without biases, whose gradient a norm behind them makes zero in a healthy network."""
    return {name: value for name, value in values.items() if not name.endswith("bias")}


def layers(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R9: layers that are frozen, get no gradient or die, and updates that are out of proportion."""
    if not isinstance(record, ProbeSeen) or not record.update_ratio:
        return
    at = (record.epoch, record.step)
    updates, gradients = weights_of(record.update_ratio), weights_of(record.gradient)
    still = [name for name, ratio in updates.items() if ratio == 0.0]
    without = [name for name in still if gradients.get(name, 0.0) == 0.0 and name not in record.frozen]
    unmoved = [name for name in still if name not in without]
    if unmoved:
        told = ", ".join(name for name in unmoved[:3]) + (", ..." if len(unmoved) > 3 else "")
        why = "they are frozen" if set(unmoved) <= set(record.frozen) else "the optimiser does not change them"
        said = f"{len(unmoved)} of {len(updates)} weights stay as they are ({told}): {why}"
        yield Sign("R9", "frozen", "warn", said, *at, numbers={"share": len(unmoved) / len(updates)})
    if without:
        told = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
        said = f"{len(without)} of {len(updates)} weights get no gradient ({told})"
        yield Sign("R9", "no_gradient", "warn", said, *at, numbers={"share": len(without) / len(updates)})
    last = memory.probes[-2:]
    middle = [median(list(weights_of(one.update_ratio).values())) for one in last]
    if len(middle) == 2 and min(middle) > LARGEST_UPDATE:
        said = f"a step changes the weights by {median(middle):.1%} of their size (healthy: 0.01 % to a few per cent)"
        yield Sign("R9", "update_too_large", "warn", said, *at, numbers={"ratio": median(middle)})
    most = max(update_sizes(memory.probes))
    if len(middle) == 2 and 0 < most < SMALLEST_UPDATE:
        said = f"a step changes the weights by {most:.1e} of their size at most: they hardly move"
        yield Sign("R9", "update_too_small", "warn", said, *at, numbers={"ratio": most})
    dead = {name: share for name, share in record.dead_share.items() if share >= DEAD_SHARE}
    if dead:
        name, share = max(dead.items(), key=lambda item: item[1])
        said = f"{share:.0%} of the channels of {name} carry nothing ({len(dead)} such layers)"
        yield Sign("R9", "dead", "warn", said, *at, numbers={"share": share, "layers": float(len(dead))})


def rate(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R10: nearly every step is clipped; the rate is at its end while the loss is not; several hands write it."""
    if isinstance(record, EpochSeen):
        yield from _clipped(memory, record)
        yield from _rate_at_its_end(memory, record)
    if isinstance(record, EventSeen) and record.kind in WRITERS:
        writers = {event.kind for event in memory.events if event.kind in WRITERS}
        if len(writers) >= 3:
            said = f"{', '.join(sorted(writers)).replace('_', ' ')} all change weights or learning rate in this run"
            yield Sign("R10", "rate_writers", "note", said, record.epoch, record.step)


def _clipped(memory: Memory, record: EpochSeen) -> Iterator[Sign]:
    """Most steps of three epochs were clipped, or all but all of two, to a small part of themselves."""
    shares = [one.clipped_share for one in memory.epochs if one.clipped_share is not None]
    norm, limit = record.gradient_norm, memory.setting.gradient_clip
    excess = 1.0 if not norm or not limit else norm / limit
    is_tight = len(shares) >= 2 and min(shares[-2:]) > ALL_CLIPPED and excess > TIGHT
    if is_tight or (len(shares) >= CLIPPED_EPOCHS and min(shares[-CLIPPED_EPOCHS:]) > CLIPPED_SHARE):
        sizes = "" if norm is None or limit is None else f", mean norm {norm:.3g} at a limit of {limit:g}"
        said = f"{shares[-1]:.0%} of an epoch's steps were clipped, and no fewer before{sizes}"
        numbers = {"share": min(shares[-2:]), "excess": excess}
        grave = "warn" if excess > TIGHT else "note"  # a limit at about the usual norm is an ordinary choice
        yield Sign("R10", "clipped", grave, said, record.epoch, record.step, numbers=numbers)


def _rate_at_its_end(memory: Memory, record: EpochSeen) -> Iterator[Sign]:
    """The rate has fallen to almost nothing of what it was, and much of the run is left."""
    base, done = memory.setting.base_rate, memory.share_done
    rates = [one.rate for one in memory.epochs if one.rate is not None]
    if not base or done is None or done >= LATEST_END or not rates or record.rate is None:
        return
    was = max(rates[0], _rate_before(memory))
    if max(rates[-2:]) < AT_MINIMUM * base and was >= FELL_FROM * base:
        now = f"the learning rate is {record.rate:.1e}, {record.rate / base:.2%} of its base"
        yield Sign("R10", "rate_at_minimum", "warn", f"{now}, {done:.0%} into the run", record.epoch, record.step)


def _rate_before(memory: Memory) -> float:
    """The rate at the first probe, where the updates have shrunk since: an epoch's record has its last rate only."""
    base, updates = memory.setting.base_rate or 0.0, update_sizes(memory.probes)
    fell = len(updates) > 1 and updates[0] > 30 * max(updates[-1], 1e-12)
    return base if fell else 0.0


def update_sizes(probes: Sequence[ProbeSeen]) -> list[float]:
    """Of each probe: the median over the weights that change at all of a step's change relative to the weights."""
    found = [[value for value in weights_of(one.update_ratio).values() if value > 0] for one in probes]
    return [median(values) if values else 0.0 for values, one in zip(found, probes, strict=True) if one.update_ratio]


def noise(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R11: successive gradients share so little that the batch is far below the noise scale."""
    if not isinstance(record, ProbeSeen):
        return
    scales = [(one.noise_scale, one.batch) for one in memory.probes[-5:] if one.noise_scale is not None and one.batch]
    if len(scales) < PROBES:
        return
    ratio = median([scale / batch for scale, batch in scales if scale is not None and batch])
    if ratio > BATCH_NOISE:
        said = f"the gradient noise scale is about {ratio:.0f} times the batch of {record.batch}"
        yield Sign("R11", "batch_noise", "note", said, record.epoch, record.step, numbers={"ratio": ratio})


def alignment(probes: Sequence[ProbeSeen]) -> float:
    """Median cosine of successive gradients."""
    return median([one.gradient_cosine for one in probes if one.gradient_cosine is not None])
