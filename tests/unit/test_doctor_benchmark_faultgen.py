"""Draws are functions of a number, halves share no scene, every kind breaks something, and figures count what is so."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from volumen.config.schema import Config
from volumen.doctor.audit import CHECKS
from volumen.doctor.benchmark.faultgen.auditing import REFUSED, Said
from volumen.doctor.benchmark.faultgen.bundle import config_in
from volumen.doctor.benchmark.faultgen.draws import KINDS, PER_SEED, SCENES, checked_kind, draw_of, draws, made
from volumen.doctor.benchmark.faultgen.figures import figures_of, news, to_json
from volumen.doctor.benchmark.faultgen.harm import Harm, harm_of, judged, labels_lost, welch
from volumen.doctor.benchmark.faultgen.healthy import NEUTRAL
from volumen.doctor.benchmark.faultgen.page import audit_page
from volumen.doctor.benchmark.faultgen.running import Seen
from volumen.errors import UserError

FEW = list(islice(draws(), 600))
CHEAP = {one.half: one.name for one in SCENES if one.look.shape in ("sheets", "shells")}
BY_KIND = {one.kind: one for one in FEW if one.group != "healthy"}


def of_kind(kind):
    """A draw of a kind, on a scene that is quickly made."""
    one = BY_KIND[kind]
    fits = one.group == "neutral" or KINDS[kind].fits(next(s for s in SCENES if s.name == CHEAP[one.half]))
    return replace(one, scene=CHEAP[one.half] if fits else one.scene)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where drawn volumes are kept."""
    return tmp_path_factory.mktemp("bench")


def test_a_draw_is_a_function_of_its_number_and_other_seeds_are_other_draws():
    assert list(islice(draws(), 600)) == FEW
    again = list(islice(draws(1), 600))
    assert [one.number - PER_SEED for one in again] == [one.number for one in FEW]
    assert [one.severity for one in again] != [one.severity for one in FEW]


def test_halves_share_no_scene_and_no_quarter_of_a_kinds_severity():
    for scene in SCENES:
        assert all(one.half == scene.half for one in FEW if one.scene == scene.name)
    for kind in KINDS:
        pairs = {(one.half, one.number // 2): int(4 * one.severity) for one in FEW if one.kind == kind}
        for (half, place), quarter in pairs.items():
            other = pairs.get(("report" if half == "tune" else "tune", place))
            assert other is None or other != quarter


@pytest.mark.parametrize("half", ["tune", "report"])
def test_a_beginning_of_a_half_is_balanced_over_the_parts(half):
    mine = [one for one in FEW if one.half == half][:150]
    for part in ("data", "objective", "code", "schedule", "healthy"):
        assert sum(one.part == part for one in mine) >= 8, part
    assert {one.kind for one in mine} >= {*KINDS, *NEUTRAL}


def test_the_right_answers_are_checks_that_there_are():
    for kind in KINDS.values():
        assert set(kind.codes) <= set(CHECKS), kind.name


@pytest.mark.parametrize("kind", sorted({*KINDS, *NEUTRAL} - {"scroll_one_for_all"}))
def test_a_kind_changes_something_and_is_a_configuration_that_loads(kind, kept):
    draw = of_kind(kind)
    broken, twin = made(draw, plainer=True, kept=kept)
    assert Config.model_validate_json(json.dumps(config_in(broken, kept, "draw"))).name == "draw"
    same = broken.values == twin.values and broken.scrolls == twin.scrolls and broken.parts == twin.parts
    pairs = zip(broken.volumes, twin.volumes, strict=True)
    untouched = all(
        np.array_equal(one.image, other.image) and np.array_equal(one.label, other.label) for one, other in pairs
    )
    assert not (same and untouched)
    for volume in broken.volumes:
        assert volume.image.shape == volume.label.shape
        assert volume.label.dtype == np.uint8
        assert volume.label.max() <= 2
    again = made(draw, plainer=True, kept=kept)[0]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(broken.volumes, again.volumes, strict=True))


def test_a_subset_leaves_the_other_volumes_as_they_are(kept):
    draw = replace(of_kind("surface_dilated"), subset="one")
    broken, twin = made(draw, plainer=True, kept=kept)
    changed = [not np.array_equal(a.label, b.label) for a, b in zip(broken.volumes, twin.volumes, strict=True)]
    assert sum(changed) == 1
    assert not any(changed[twin.training :])


def test_harm_follows_welch_and_two_deviations():
    healthy = [0.80, 0.82, 0.81, 0.79, 0.83]
    assert judged([0.4, 0.5, 0.45], healthy).verdict == "harmful"
    assert judged(healthy[:3], healthy).verdict == "neutral"
    assert judged([0.78, 0.79, 0.78], healthy).verdict == "open"
    assert judged([0.4, 0.4], healthy).verdict == "open"
    assert welch([1.0, 1.0], [0.0, 0.0]) == 0.0
    assert welch([1.0, 1.0], [1.0, 1.0]) == 1.0
    assert welch([0.5, 0.6, 0.7], [0.5, 0.6, 0.7]) == pytest.approx(0.5)


def test_as_many_runs_are_asked_for_as_the_matter_takes(kept):
    draw = next(one for one in FEW if one.kind == "rate_high")
    asked = []

    def ask(bundle, seed):
        asked.append(seed)
        return 0.8 + 0.01 * (seed % 3)

    assert harm_of(replace(draw, scene=CHEAP[draw.half]), ask, kept=kept).verdict == "neutral"
    assert len(asked) == 8


def test_post_processing_is_judged_by_what_it_leaves_of_the_labels(kept):
    mild, strong = (
        harm_of(replace(of_kind("components_removed"), severity=severity), lambda bundle, seed: None, kept=kept)
        for severity in (0.0, 0.99)
    )
    assert strong.verdict == "harmful"
    assert mild.drop < strong.drop == 1
    plain = made(of_kind("sensible_criterion"), kept=kept)[0]
    assert labels_lost(plain.having({"postprocessing": {"steps": ({"kind": "threshold"},)}})) == 0


def seen(kind, verdict, *codes, twin=()):
    """A draw that has been audited."""
    found = tuple({"code": code, "severity": "stop", "title": f"of {code}"} for code in codes)
    known = tuple({"code": code, "severity": "stop", "title": f"of {code}"} for code in twin)
    return Seen(BY_KIND[kind], Said(BY_KIND[kind], found, known, 1.0, "", full=False), Harm(verdict, "training", 0.1))


def test_figures_count_what_was_said_of_the_fault_alone():
    draws_seen = [
        seen("label_mirrored", "harmful", "P7", "P2"),
        seen("label_mirrored", "harmful", "P2", "P7"),
        seen("label_mirrored", "harmful", "P7", twin=("P7",)),
        seen("label_mirrored", "harmful", REFUSED),
        seen("label_mirrored", "neutral", "P7"),
        seen("label_mirrored", "open"),
        seen("masked", "neutral"),
    ]
    found = figures_of(draws_seen)
    assert (found.recall[0].hits, found.recall[0].of, found.recall[0].named) == (3, 4, 2)
    assert (found.false_stops.hits, found.false_stops.of, found.opened) == (1, 2, 1)
    assert (found.healthy.hits, found.healthy.of) == (0, 1)
    assert [news(one) for one in found.missed] == [[]]
    assert sum(one.of for one in found.severities) == 4
    page = audit_page(found, "volumen doctor-bench --draw")
    assert f"`volumen doctor-bench --draw {found.missed[0].draw.number}`" in page
    assert json.loads(json.dumps(to_json(found, draws_seen)))["recall"][0]["hits"] == 3


def test_a_kind_that_is_not_there_is_refused_with_near_ones():
    with pytest.raises(UserError, match="label_mirrored"):
        checked_kind("label_miror")
    assert checked_kind("healthy") == "healthy"
    assert draw_of(7).number == 7
