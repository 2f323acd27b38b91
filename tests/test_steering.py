"""Steering: weights of known answer, and a generator that ignores its condition in a quarter of its samples."""

import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from steering_toy import BASE, IGNORED, REWARD, accuracy, discs_job, longer, planted, steered, write_discs

from synthgain.generators.steering_options import Steering
from synthgain.generators.training import train_family
from synthgain.report.sections.steering import score_gain
from synthgain.report.tables import NORMAL_95
from synthgain.runtime.command import Terminated
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest
from synthgain.steering.alarms import LEAST_SPREAD, Drawn, measured, raised
from synthgain.steering.proxy_scores import scorer, train_proxies
from synthgain.steering.rounds import prepare_steered_run
from synthgain.steering.scores import CrossFitted
from synthgain.steering.weights import LARGEST, match_weights, maximise_weights
from train_generator import train_generator


def test_matching_weights_turn_the_samples_scores_into_the_real_ones():
    rng = np.random.default_rng(0)
    real, own = rng.normal(1.0, 1.0, 4000), rng.normal(0.2, 1.2, 4000)
    weights = match_weights(own, real)
    assert np.average(own, weights=weights) == pytest.approx(real.mean(), abs=0.1)
    assert weights.max() <= LARGEST
    same = match_weights(real, rng.normal(1.0, 1.0, 4000))
    assert same.mean() == pytest.approx(1.0, abs=0.02)
    assert same.std() < 0.15


def test_maximising_weights_are_of_mean_one_and_grow_with_the_score():
    scores = np.linspace(0.2, 0.9, 50)
    weights = maximise_weights(scores)
    assert weights.mean() == pytest.approx(1.0)
    assert (np.diff(weights) > 0).all()
    assert weights[-1] / weights[0] == pytest.approx(np.exp(0.7 / 0.3))


class Known:
    """The judge of a toy of two numbers: the first tells the classes apart by a logistic law of known slope."""

    def score(self, images, table):
        signs = np.where(table["finding"].to_numpy() > 0, 1.0, -1.0)
        return 2.0 * signs * numbers(images)[:, 0]

    def features(self, images):
        return numbers(images)


SCORER = CrossFitted(pd.Series([0, 1], index=["a", "b"]), (Known(), Known()), lambda s: 1 / (1 + np.exp(-s)))


def numbers(images):
    return (images.numpy().reshape(len(images), 2).astype(float) - 128) / 32


def as_images(points):
    return torch.from_numpy(np.clip(np.round(points * 32 + 128), 0, 255).astype(np.uint8)[:, :, None, None])


def in_two_numbers(objective, rounds, count=3000, ignored=0.25):
    """Steer an ideal learner: what it draws next is what it was trained on, weighted, and as smooth as before."""
    rng = np.random.default_rng(5)
    label = np.arange(count) % 2
    table = pd.DataFrame({"finding": label, "parent_patient_id": np.where(np.arange(count) % 3 == 0, "a", "b")})
    condition = label.astype(str).astype(object)

    def law(shown):
        return rng.normal(0, 0.8, (count, 2)) + np.stack([2.0 * shown - 1, np.zeros(count)], axis=1)

    real = as_images(law(label))
    reals = Drawn(real, SCORER.score(real, table, "parent_patient_id"), condition)
    points, rows = law(np.where(rng.random(count) < ignored, 1 - label, label)), []
    for number in range(rounds + 1):
        own = Drawn(as_images(points), SCORER.score(as_images(points), table, "parent_patient_id"), condition)
        rows.append(measured(own, reals, SCORER, 2))
        if number == rounds:
            break
        weights = np.empty(count)
        for value in ("0", "1"):
            inside = condition == value
            if objective == "match":
                weights[inside] = match_weights(own.scores[inside], reals.scores[inside])
        if objective == "maximise":
            weights = maximise_weights(SCORER.unit(own.scores))
        drawn = np.empty_like(points)
        for value in (0, 1):
            inside = np.flatnonzero(label == value)
            share = weights[inside] / weights[inside].sum()
            drawn[inside] = points[rng.choice(inside, len(inside), p=share)]
        points = drawn + rng.normal(0, 0.05, points.shape)
    truth = (points[:, 0] > 0) == (label > 0)
    return rows, float(truth.mean()), float(((numbers(real)[:, 0] > 0) == (label > 0)).mean())


def test_matching_brings_the_planted_generator_to_the_real_accuracy_and_keeps_its_spread():
    rows, found, real = in_two_numbers("match", 2)
    assert found == pytest.approx(real, abs=0.04)
    assert rows[-1]["spread"] >= LEAST_SPREAD * rows[-1]["real_spread"]
    assert not raised(rows[0], rows[-1])


def test_maximising_beyond_the_real_score_raises_its_alarms():
    rows, found, real = in_two_numbers("maximise", 4)
    assert found > real + 0.04
    alarms = raised(rows[0], rows[-1])
    assert [alarm.split(":")[0] for alarm in alarms] == ["score above real", "less spread", "recall down"]


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """A run with the generator that ignores its condition in a quarter of its samples, and that generator's job."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("steering")
    return run, planted(run)


def test_a_planted_generator_is_steered_to_its_condition_and_by_more_training_or_shuffled_scores_nowhere(discs):
    run, base = discs
    before = accuracy(base)
    assert before == pytest.approx(1 - IGNORED, abs=0.1)
    matched = steered(run, base, "matched", anchor=0)
    unsteered = accuracy(longer(run, base))
    shuffled = steered(run, base, "shuffled", anchor=1, shuffled=True)  # own samples alone cost: docs/steering.md
    noise = 2.5 * np.sqrt(2 * before * (1 - before) / 400)
    assert accuracy(matched) > before + 2 * noise
    assert accuracy(matched) > 0.9  # real discs show what their checked label says, all of them
    assert abs(unsteered - before) < noise  # the labels keep the fault
    assert abs(accuracy(shuffled) - unsteered) < noise
    told = Steering.model_validate(read_manifest(shuffled.outputs[0])["steering"])
    rise, error = score_gain(told)
    assert abs(rise) < NORMAL_95 * error
    assert 0.25 * REWARD["samples"] < told.rounds[0].effective < REWARD["samples"]
    found = read_manifest(matched.outputs[0])
    assert found["snapshots"] == [100, 200]
    rounds = found["steering"]["rounds"]
    assert [row["step"] for row in rounds] == [0, 100, 200]
    assert rounds[-1]["score"] > rounds[0]["score"] + 3 * rounds[0]["score_se"]
    assert rounds[-1]["spread"] > LEAST_SPREAD * rounds[-1]["real_spread"]
    assert found["steering"]["alarms"] == []
    assert (matched.outputs[0].parent / "steering.csv").exists()


def test_a_generator_that_is_maximised_beyond_its_stop_rule_raises_the_alarms(tmp_path):
    torch.set_num_threads(1)
    write_discs(tmp_path, ignored=0, overlap=45)  # a disc of either finding may be as bright as one of the other
    base = discs_job(tmp_path, "base", training=BASE | {"steps": 300})
    train_family(base)
    greedy = {"labels": None, "objective": "maximise", "rounds": 3, "samples": 192, "proxy_steps": 300, "anchor": 0}
    over = read_manifest(steered(tmp_path, base, "over", 180, **greedy, stop=False).outputs[0])["steering"]
    assert over["stopped_at"] is None
    assert [alarm.split(":")[0] for alarm in over["alarms"]] == ["score above real", "less spread"]
    assert over["rounds"][-1]["score"] > over["rounds"][-1]["real_score"] + 2 * over["rounds"][-1]["score_se"]
    assert over["rounds"][0]["score"] < over["rounds"][0]["real_score"]


def test_a_killed_steering_goes_on_to_the_same_weights(discs):
    run, base = discs
    small = {"rounds": 2, "samples": 32, "proxy_steps": 20, "target": "finding", "scores": "proxy"}
    training = BASE | {"steps": 12, "snapshots": [6]}
    whole = discs_job(run, "whole", base, training=training, reward=small)
    train_generator(whole)
    job = replace(whole, outputs=[run / "generators/killed/0/manifest.json"])

    def killed_in_the_second_round(job):
        made = prepare_steered_run(job)
        step = made.take_step

        def take_step(rows, own):
            if made.step == 8:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(rows, own)

        made.take_step = take_step
        return made

    with pytest.raises(Terminated, match="state saved at step 9 of 12"):
        train_family(job, killed_in_the_second_round)
    shutil.rmtree(job.state_folder() / "own_samples")
    train_family(job, prepare_steered_run)
    files = [read_manifest(one.outputs[0])["files"] for one in (whole, job)]
    weights = [{n: f["sha256"] for n, f in one.items() if n.endswith(".safetensors")} for one in files]
    assert weights[0] == weights[1]
    assert len(weights[0]) > 2


def test_proxies_score_only_patients_that_they_did_not_see(discs):
    run, base = discs
    job = discs_job(run, "seen", base, training=BASE | {"steps": 2}, reward=REWARD | {"rounds": 1})
    made = prepare_steered_run(job)
    found = scorer(made)
    seen = []

    class Watched:
        def __init__(self, half):
            self.half = half

        def score(self, images, table):
            seen.append((self.half, set(table["patient_id"])))
            return np.zeros(len(table))

    watched = CrossFitted(found.half_of, (Watched(0), Watched(1)), found.unit)
    watched.score(made.data.images, made.data.table)
    assert len(seen) == 2
    for half, patients in seen:
        assert set(found.half_of[sorted(patients)]) == {1 - half}
    assert abs(found.half_of.mean() - 0.5) < 0.01


def test_a_target_without_enough_images_of_a_value_ends_with_one_line():
    table = pd.DataFrame({"patient_id": [f"p{n}" for n in range(40)], "finding": [1.0] * 5 + [0.0] * 35})
    images = torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
    columns = {"finding": {"role": "target", "kind": "binary"}}
    with pytest.raises(SynthGainError, match=r"reward\.target 'finding'.*a proxy needs 8 of each"):
        train_proxies(images, table, columns, "finding", 10, torch.device("cpu"), {"study": 0})


def test_checked_labels_of_other_values_than_the_target_are_one_line(discs):
    run, base = discs
    job = discs_job(run, "strange", base, training=BASE | {"steps": 2}, reward=REWARD | {"rounds": 1})
    made = prepare_steered_run(job)
    made.data.table["true_finding"] *= 2
    with pytest.raises(
        SynthGainError, match=r"reward.labels 'true_finding' has the values \[0.0, 2.0\], and 'finding'"
    ):
        scorer(made)


def test_proxies_learn_from_the_checked_labels_and_only_checked_images_are_what_scores_are_held_against(discs):
    run, base = discs
    job = discs_job(run, "checked", base, training=BASE | {"steps": 2}, reward=REWARD | {"rounds": 1})
    made = prepare_steered_run(job)
    known = made.real_table["finding"].notna()
    assert known.mean() == pytest.approx(2 / 3)
    assert (made.real_table["finding"] != made.data.table["finding"])[known].mean() == pytest.approx(IGNORED, abs=0.08)
    scores = scorer(made).score(made.data.images, made.real_table)
    assert np.isnan(scores[~known]).all()
    assert (scores[known] > 0).mean() > 0.9
    assert (scorer(made).score(made.data.images, made.data.table) > 0).mean() < 0.85  # of the labels a quarter is wrong
