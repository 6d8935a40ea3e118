"""Logs as known programs write them, cut short; restarts; names; what the user maps."""

import json

import pytest

from volumen.errors import UserError
from volumen.logs.names import meaning_of, parse_map, parse_weights
from volumen.logs.read import read_log_of
from volumen.monitors.seen import EpochSeen, EventSeen, StepsSeen, ValidationSeen


@pytest.fixture
def read(tmp_path):
    """The history of a text."""

    def history(text, name="log", **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_log_of(path, **options)

    return history


def of(history, kind):
    """The records of a kind."""
    return [record for record in history.records if isinstance(record, kind)]


NNUNET_2 = """
2026-01-25 10:00:00.123456: Epoch 0 
2026-01-25 10:00:00.123456: Current learning rate: 0.01 
2026-01-25 10:00:10.123456: train_loss -0.1234 
2026-01-25 10:00:10.123456: val_loss -0.2234 
2026-01-25 10:00:10.123456: Pseudo dice [np.float32(0.8), np.float32(0.6)] 
2026-01-25 10:00:10.123456: Epoch time: 12.3 s 
2026-01-25 10:00:10.123456: Yayy! New best EMA pseudo Dice: 0.7 
2026-01-25 10:00:10.123456:  
2026-01-25 10:00:10.123456: Epoch 1 
2026-01-25 10:00:10.123456: Current learning rate: 0.00991 
2026-01-25 10:00:20.123456: train_loss -0.3 
2026-01-25 10:00:20.123456: val_loss nan 
2026-01-25 10:00:20.123456: Pseudo dice [0.85, nan] 
2026-01-25 10:00:20.123456: Epoch time: 11.5 s 
"""  # noqa: W291
NNUNET_1 = """
2021-01-25 10:00:00.1: 
epoch:  0
2021-01-25 10:00:10.1: train loss : -0.1234
2021-01-25 10:00:10.1: validation loss: -0.2234
2021-01-25 10:00:10.1: Average global foreground Dice: [0.8, 0.6]
2021-01-25 10:00:10.1: (interpret this as an estimate for the Dice of the different classes. This is not exact.)
2021-01-25 10:00:10.1: lr: 0.01
2021-01-25 10:00:10.1: This epoch took 12.3 s
2021-01-25 10:00:10.1: 
epoch:  1
2021-01-25 10:00:20.1: train loss : -0.3
2021-01-25 10:00:20.1: validation loss: nan
2021-01-25 10:00:20.1: Average global foreground Dice: [0.85, nan]
2021-01-25 10:00:20.1: lr: 0.00991
2021-01-25 10:00:20.1: This epoch took 11.5 s
"""  # noqa: W291


@pytest.mark.parametrize(("text", "dice"), [(NNUNET_2, "pseudo_dice"), (NNUNET_1, "foreground_dice")])
def test_the_logs_of_both_versions_of_nnunet_say_losses_scores_rates_and_times(read, text, dice):
    history = read(text)
    first, second = of(history, EpochSeen)
    assert (first.total, first.rate, first.seconds) == (-0.1234, 0.01, 12.3)
    assert (second.total, second.rate, second.seconds) == (-0.3, 0.00991, 11.5)
    one, other = of(history, ValidationSeen)
    assert (one.total, one.metrics[dice]) == (-0.2234, pytest.approx(0.7))
    assert other.total != other.total
    assert other.metrics[dice] == 0.85  # a class that is not there has no Dice
    assert history.setting.selection_metric == dice


def test_parts_of_a_loss_stand_in_parentheses_or_in_a_tree_below_it(read):
    history = read(
        "Epoch 9 Val - Loss: 0.5602 (dice: 0.4845, focal: 0.1605, variance: 0.9542)\n"
        "Epoch 9 Train - Loss: 0.5706\n"
        "Epoch 10 Val Loss: 0.6104\n  ├── Dice: 0.4745 (OK)\n  ├── Focal: 0.17\n"
        "  └── Variance: 0.9642 (STUCK AT 0.95+)\n"
        "Dice: 0.81\n"
    )
    nine, ten = of(history, ValidationSeen)
    assert nine.terms == {"dice": 0.4845, "focal": 0.1605, "variance": 0.9542}
    assert ten.terms == {"dice": 0.4745, "focal": 0.17, "variance": 0.9642}
    assert (nine.metrics, ten.metrics) == ({}, {"dice": 0.81})
    assert [each.total for each in of(history, EpochSeen)] == [0.5706]


def test_what_happened_is_an_event_with_its_numbers(read):
    history = read(
        "Epoch 5 Val - Loss: 0.6286\n"
        "Adaptive intervention: learning rate scaled 32.5x\n"
        "Epoch 6 Val - Loss: 0.61\n"
        "New best: 0.61\n"
        "Epoch 7 Val - Loss: 0.9\n"
        "Epoch 00007: reducing learning rate of group 0 to 1.0000e-05.\n"
        "Rolling back to the best checkpoint\n"
        "Early stopping\n"
    )
    events = [(event.epoch, event.kind, dict(event.numbers)) for event in of(history, EventSeen)]
    assert events == [
        (5, "rate_scaled", {"factor": 32.5}),
        (6, "best", {"value": 0.61}),
        (7, "rate_reduced", {"rate": 1e-05}),
        (7, "rollback", {}),
        (7, "early_stopping", {}),
    ]


def test_other_weights_are_a_new_phase_and_the_first_are_the_setting(read):
    history = read(
        "Loss weights: dice=0.5, focal=0.3, variance=0.1\nEpoch 0 Val - Loss: 0.61\n"
        "Loss weights: dice=0.5, focal=0.3, variance=0.1\nEpoch 1 Val - Loss: 0.60\n"
        "dice_weight: 0.7\nEpoch 2 Val - Loss: 0.63\n"
    )
    assert history.setting.weights == {"dice": 0.5, "focal": 0.3, "variance": 0.1}
    (phase,) = of(history, EventSeen)
    assert (phase.kind, phase.epoch, phase.numbers["dice"], phase.numbers["focal"]) == ("phase", 2, 0.7, 0.3)
    assert read("Epoch 0 loss: 1 (dice: 2)\n", weights={"dice": 0.4}).setting.weights == {"dice": 0.4}


def test_keras_and_monai_print_bars_and_counts_from_one(read):
    keras = read(
        "Epoch 1/10\n1/9 [>....] - ETA: 3s - loss: 0.9\r9/9 [========] - 12s 38ms/step - loss: 0.5 - dice: 0.6"
        " - val_loss: 0.7 - val_dice: 0.4\nEpoch 2/10\n9/9 [========] - 12s - loss: 0.4 - dice: 0.7 - val_loss: 0.6"
        " - val_dice: 0.5\n"
    )
    assert [(each.epoch, each.total, dict(each.metrics)) for each in of(keras, EpochSeen)] == [
        (0, 0.5, {"dice": 0.6}),
        (1, 0.4, {"dice": 0.7}),
    ]
    assert [(each.total, dict(each.metrics)) for each in of(keras, ValidationSeen)] == [
        (0.7, {"dice": 0.4}),
        (0.6, {"dice": 0.5}),
    ]
    assert keras.setting.planned_epochs == 10
    assert any("from 1" in fault for fault in keras.faults)
    monai = read(
        "epoch 1/600\n1/2, train_loss: 0.6\n2/2, train_loss: 0.4\nepoch 1 average loss: 0.45\n"
        "saved new best metric model\ncurrent epoch: 1 current mean dice: 0.43\nbest mean dice: 0.43 at epoch: 1\n"
    )
    (steps,), (epoch,), (validation,) = of(monai, StepsSeen), of(monai, EpochSeen), of(monai, ValidationSeen)
    assert (steps.totals, epoch.total, dict(validation.metrics)) == ((0.6, 0.4), 0.45, {"dice": 0.43})


def test_a_table_of_steps_and_epochs_keeps_both(read):
    history = read(
        "epoch,step,train_loss_epoch,train_loss_step,val_loss\n"
        "0,49,,0.5,\n0,99,,0.4,\n0,99,,,0.6\n0,99,0.46,,\n1,149,,0.4,\n1,199,,0.3,\n1,199,,,0.5\n1,199,0.36,,\n"
    )
    assert [each.totals for each in of(history, StepsSeen)] == [(0.5, 0.4), (0.4, 0.3)]
    assert [(each.total, each.step) for each in of(history, EpochSeen)] == [(0.46, 99), (0.36, 199)]
    assert [(each.total, each.step) for each in of(history, ValidationSeen)] == [(0.6, 99), (0.5, 199)]


def test_fractions_of_epochs_belong_to_the_epoch_they_end_in(read):
    rows = [
        {"epoch": 0.5, "loss": 1.0, "step": 50},
        {"epoch": 1.0, "loss": 0.8, "step": 100},
        {"epoch": 1.0, "eval_loss": 0.9, "step": 100},
        {"epoch": 1.5, "loss": 0.7, "step": 150},
    ]
    history = read(json.dumps({"best_metric": None, "log_history": rows}))
    assert [(each.epoch, each.total) for each in of(history, EpochSeen)] == [(0, 0.9), (1, 0.7)]
    assert [(each.epoch, each.total) for each in of(history, ValidationSeen)] == [(0, 0.9)]
    printed = read("\n".join(repr(row) for row in rows))
    assert printed.records == history.records


def test_a_log_of_steps_alone_is_cut_into_parts(read):
    history = read("\n".join(json.dumps({"_step": step, "loss": 1 / (1 + step)}) for step in range(1000)))
    epochs = of(history, EpochSeen)
    assert len(epochs) == 100
    assert sum(len(each.totals) for each in of(history, StepsSeen)) == 1000
    assert any("no epochs" in fault for fault in history.faults)


def test_an_epoch_that_comes_again_replaces_what_followed(read):
    history = read("".join(f"Epoch {epoch} loss={loss}\n" for epoch, loss in ((0, 1), (1, 2), (2, 3), (1, 4), (2, 5))))
    assert [(each.epoch, each.total) for each in of(history, EpochSeen)] == [(0, 1), (1, 4), (2, 5)]
    assert [each.kind for each in of(history, EventSeen)] == ["resumed"]
    assert any("replace" in fault for fault in history.faults)


def test_a_first_epoch_that_comes_again_begins_another_training(read):
    history = read("".join(f"Epoch {epoch} loss={loss}\n" for epoch, loss in ((1, 1), (2, 2), (1, 3), (2, 4))))
    assert [(each.epoch, each.total) for each in of(history, EpochSeen)] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [(each.kind, each.epoch) for each in of(history, EventSeen)] == [("restart", 2)]
    assert any("begins anew" in fault for fault in history.faults)


def test_a_validation_that_is_told_late_is_no_restart(read):
    history = read("Epoch 0 train loss 1\nEpoch 1 train loss 0.9\nEpoch 0 val loss 2\nEpoch 1 val loss 1.9\n")
    assert [(each.epoch, each.total) for each in of(history, ValidationSeen)] == [(0, 2), (1, 1.9)]
    assert not of(history, EventSeen)


def test_what_cannot_be_read_is_counted(read):
    history = read("epoch,loss\n0,1\n1,oops\n2,0.5\nwhat,is,this\n")
    assert [each.total for each in of(history, EpochSeen)] == [1, 0.5]
    assert any("cannot be read: 2, the first is line 3" in fault for fault in history.faults)
    lines = read('{"epoch": 0, "loss": 1}\n{"epoch": 1, "lo\n{"epoch": 2, "loss": NaN}\n')
    assert any("no JSON: 1" in fault for fault in lines.faults)
    assert [each.epoch for each in of(lines, EpochSeen)] == [0, 2]


def test_a_score_that_is_better_when_lower_is_left_out_or_negated(read):
    text = "epoch,val_loss,val_hd95\n0,0.5,12\n1,0.4,9\n"
    assert any("hd95" in fault for fault in read(text).faults)
    history = read(text, mapping=parse_map(["val_hd95=val.cost:hd95"]))
    assert [dict(each.metrics) for each in of(history, ValidationSeen)] == [
        {"negative_hd95": -12},
        {"negative_hd95": -9},
    ]


def test_the_user_says_what_a_name_means(read):
    text = "n;quality;zeta;x\n1;80;0.5;3\n2;90;0.4;3\n"
    with pytest.raises(UserError, match="--map NAME=MEANING"):
        read(text)
    said = parse_map(["n=epoch", "quality=val.metric", "Zeta=train.loss"])
    history = read(text, mapping=said)
    assert [each.total for each in of(history, EpochSeen)] == [0.5, 0.4]
    assert [dict(each.metrics) for each in of(history, ValidationSeen)] == [{"quality": 80}, {"quality": 90}]
    lines = read("Epoch 0: zeta = 0.5 quality: 80\n", mapping=said)
    assert of(lines, EpochSeen)[0].total == 0.5


@pytest.mark.parametrize("entry", ["loss", "=loss", "a=nonsense", "a=nowhere.loss", "a=", "a=b=c"])
def test_a_map_that_says_nothing_is_refused(entry):
    with pytest.raises(UserError, match="expected COLUMN=MEANING"):
        parse_map([entry])


def test_weights_are_parsed_and_refused():
    assert parse_weights("dice=0.5, Focal_Loss=0.3;variance:0.1") == {"dice": 0.5, "focal": 0.3, "variance": 0.1}
    for text in ("dice", "dice=x", "=1", "dice=-1", "dice=nan", "dice=inf"):
        with pytest.raises(UserError, match="NAME=WEIGHT"):
            parse_weights(text)


@pytest.mark.parametrize(
    ("name", "kind", "split", "called"),
    [
        ("val_loss", "loss", "val", ""),
        ("trainLoss", "loss", "train", ""),
        ("Loss/validation", "loss", "val", ""),
        ("epoch_loss", "loss", "", ""),
        ("train/box_loss", "term", "train", "box"),
        ("dice_loss", "term", "", "dice"),
        ("val_dice", "metric", "val", "dice"),
        ("Val Acc", "metric", "val", "accuracy"),
        ("bce", "term", "", "bce"),
        ("lr-AdamW", "rate", "", ""),
        ("trainer/global_step", "step", "", ""),
        ("_step", "step", "", ""),
        ("grad_norm", "gradient_norm", "", ""),
        ("epoch", "epoch", "", ""),
        ("epoch_time", "seconds", "", ""),
        ("num_epochs", "planned_epochs", "", ""),
        ("best_val_loss", "ignore", "", ""),
        ("weight_decay", "ignore", "", ""),
        ("foreground_weight", "ignore", "", ""),
        ("dice_weight", "weight", "", "dice"),
        ("focal_alpha", "ignore", "", ""),
        ("true_positive_rate", "ignore", "", ""),
        ("label foreground (%)", "true_share", "", ""),
        ("predicted_foreground_ratio", "predicted_share", "", ""),
        ("val_hd95", "cost", "val", "hd95"),
        ("host", "ignore", "", ""),
    ],
)
def test_names_mean_what_the_page_says(name, kind, split, called):
    found = meaning_of(name)
    assert (found.kind, found.split, found.name) == (kind, split, called)


def test_a_file_without_records_says_what_was_looked_for_and_shows_three_lines(read):
    with pytest.raises(UserError) as error:
        read("hello\nworld\n\nthird\nfourth\n")
    text = str(error.value)
    assert all(word in text for word in ("TensorBoard", "CSV", "JSON", "nnU-Net", "'hello'", "'world'", "'third'"))
    assert "fourth" not in text
    with pytest.raises(UserError, match="empty"):
        read("")


def test_encodings_with_a_mark_are_known(read):
    text = "epoch;loss\n0;1,5\n1;0,5\n"
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        assert [each.total for each in of(read(text.encode(encoding)), EpochSeen)] == [1.5, 0.5]


def test_dice_beside_terms_is_one_and_beside_a_loss_alone_a_score(read):
    terms = read("epoch,loss,dice,focal\n0,0.5,0.6,0.1\n1,0.4,0.5,0.1\n")
    assert [each.terms for each in of(terms, EpochSeen)] == [{"dice": 0.6, "focal": 0.1}, {"dice": 0.5, "focal": 0.1}]
    assert any("dice" in fault for fault in terms.faults)
    score = read("epoch,train_loss,dice\n0,0.5,0.6\n1,0.4,0.5\n")
    assert [dict(each.metrics) for each in of(score, ValidationSeen)] == [{"dice": 0.6}, {"dice": 0.5}]
    said = read("epoch,loss,dice\n0,0.5,0.6\n", weights={"dice": 1.0})
    assert dict(of(said, EpochSeen)[0].terms) == {"dice": 0.6}
