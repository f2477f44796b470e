"""Settings -> noise and guarantee: within the budget, and refused where nothing would hold."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import cohort_of_round, max_participations
from phoenix_secure.federation.secagg.privacy_plan import (
    PrivacyPlan,
    check_images,
    continuing,
    num_records,
    plan_privacy,
)
from phoenix_secure.federation.secagg.stated_guarantee import guarantee_of
from phoenix_secure.federation.secagg.terms import choose_terms
from phoenix_secure.privacy.accounting import AccountingError, epsilon_of
from phoenix_secure.privacy.events import PoissonSampledGaussian, SkellamSum, unit_of
from phoenix_secure.rng import SeedTree
from protocol.parameters import skellam_tail

RECORD = ["privacy.unit=record", "privacy.sampling_rate=0.05", "training.local_steps=3"]
RECORD += ["federation.rounds=4"]
SITE = ["privacy.unit=site", "federation.rounds=2", "training.local_steps=3"]
SITE += ["partition.num_sites=6", "secure_aggregation.word_bits=32"]


def configured(*overrides: str) -> RunConfig:
    return load_config(None, list(overrides))


def plan_with_terms(config: RunConfig) -> PrivacyPlan | None:
    terms = None
    if config.secure_aggregation.mode == "on":
        terms = choose_terms(config, num_parameters=100_000, largest_site=10)
    return plan_privacy(config, terms=terms)


@pytest.mark.parametrize("epsilon", [1.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_record_plan_is_within_its_budget_and_uses_it(epsilon: float) -> None:
    plan = plan_privacy(configured(*RECORD, f"privacy.epsilon={epsilon}"), terms=None)
    assert plan is not None
    assert isinstance(plan.event, PoissonSampledGaussian)
    spent = epsilon_of([plan.event] * plan.max_releases, delta=1e-5).value
    assert 0.97 * epsilon < spent <= epsilon
    assert spent == pytest.approx(plan.planned.value)
    assert (plan.event.steps, plan.max_releases) == (3, 4)


def test_noise_multiplier_is_taken_as_given() -> None:
    config = configured(*RECORD, "privacy.noise_multiplier=1.5")
    plan = plan_privacy(config, terms=None)
    assert plan is not None
    assert plan.noise_multiplier == 1.5
    assert guarantee_of(config, plan).epsilon == plan.planned.value


def test_rounds_are_counted_in_which_the_public_seed_draws_a_site() -> None:
    config = configured("federation.rounds=30", "federation.participation=0.3", "seed=5")
    num_sites = config.partition.num_sites
    counts = np.zeros(num_sites, int)
    sites = tuple(f"site-{k:02d}" for k in range(num_sites))
    for number in range(1, 31):
        for site in cohort_of_round(sites, number, config=config, seeds=SeedTree(5)):
            counts[sites.index(site)] += 1
    assert max_participations(config) == counts.max() < 30
    # Where sites may sit out, the others are drawn more often.
    everything = config.model_copy(
        update={"filtering": config.filtering.model_copy(update={"threshold": 0.5})}
    )
    assert max_participations(everything) == (30 if everything.filtering.is_on else counts.max())


def test_site_plan_covers_dropouts_and_colluders_and_fits_the_words() -> None:
    config = configured(*SITE, "privacy.epsilon=6", "privacy.clip_norm=0.5")
    terms = choose_terms(config, num_parameters=500)
    plan = plan_privacy(config, terms=terms)
    assert plan is not None
    assert terms.noise is not None
    event = plan.event
    assert isinstance(event, SkellamSum)
    # t - c shares are in every sum and unknown to the colluders; more sites only add.
    honest = terms.threshold - terms.num_colluders
    assert event.variance == pytest.approx(honest * terms.noise.share_variance)
    deviation = terms.noise.noise_multiplier * terms.scale * 0.5
    assert event.variance == pytest.approx(deviation**2)
    assert event.l2_sensitivity >= terms.scale * 0.5
    assert epsilon_of([event] * 2, delta=1e-5).value <= 6
    n = terms.cohort_size
    largest = n * terms.fixed_point.max_integer
    largest += skellam_tail(n * terms.noise.share_variance, num_words=500)
    assert largest < 2**31
    assert terms.hides_metrics
    assert terms.max_images == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [*RECORD, "privacy.epsilon=1", "training.local_steps=null", "training.local_epochs=1"],
            "training.local_steps",
        ),
        ([*SITE, "privacy.epsilon=1", "secure_aggregation.mode=off"], "secure_aggregation.mode"),
        ([*SITE, "privacy.epsilon=1", "privacy.release_metrics=true"], "release_metrics"),
        ([*SITE, "privacy.epsilon=1", "privacy.delta=0.2"], "below 1/sites"),
        ([*SITE, "privacy.epsilon=0.05", "secure_aggregation.word_bits=16"], "word_bits"),
    ],
)
def test_settings_under_which_nothing_would_hold_are_refused(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_with_terms(configured(*overrides))


@pytest.mark.parametrize(
    ("num_images", "overrides", "message"),
    [
        (3, [], "samples less than one a step of the images at site-01 .3., site-03 .2.: .* Set "),
        (1000, ["privacy.delta=1e-3"], "not below 1/images at site-01 .1,000.: .* below 0.001$"),
        (1300, ["privacy.delta=1e-3"], "not below 1/images at site-01 .1,300.: .* below 0.00076$"),
        (0, [], "no image to train on at site-01: "),
    ],
)
def test_sites_with_too_few_images_are_refused_all_at_once(
    num_images: int, overrides: list[str], message: str
) -> None:
    config = configured(*RECORD, "privacy.epsilon=1", *overrides)
    few = 2 if num_images == 3 else 900
    sites = {"site-01": num_images, "site-02": 900, "site-03": few}
    with pytest.raises(ConfigError, match=message):
        check_images(config, sites)
    check_images(configured(), sites)


@functools.cache
def for_many_images() -> RunConfig:
    return configured(*RECORD, "privacy.epsilon=1", "privacy.delta=1e-12")


def at_rate(rate: float) -> RunConfig:
    config = for_many_images()
    privacy = config.privacy.model_copy(update={"sampling_rate": rate})
    return config.model_copy(update={"privacy": privacy})


@given(least=st.integers(1, 100_000), more=st.integers(0, 1000))
def test_the_rate_that_a_refusal_names_is_the_least_that_works(least: int, more: int) -> None:
    sites = {"site-01": least, "site-02": least + more}
    with pytest.raises(ConfigError, match="site-01") as refused:
        check_images(at_rate(0.5 / least), sites)
    found = re.search(r"Set it to (\S+) or more", str(refused.value))
    assert found is not None
    assert float(found[1]) < 1.1001 / least
    check_images(at_rate(float(found[1])), sites)


def test_a_large_delta_is_told_once_with_the_strictest_site(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = configured(*RECORD, "privacy.epsilon=2", "privacy.delta=1e-6")
    check_images(config, {"site-01": 2000, "site-02": 3000, "site-03": 900})
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        "privacy.delta = 1e-06 is above 1/images^2 = 1.1e-07 of site-02 (and 1 more): a smaller "
        "one says more"
    )


def test_the_guarantee_names_unit_adjacency_and_delta_beside_epsilon() -> None:
    config = configured(*RECORD, "privacy.epsilon=2", "privacy.delta=1e-6")
    plan = plan_privacy(config, terms=None)
    assert plan is not None
    guarantee = guarantee_of(config, plan, spent={"site-01": [plan.event]})
    text = guarantee.text
    assert f"({plan.planned.value:.4g}, 1e-06)-differential privacy per record" in text
    assert "add or remove one image of one site" in text
    values = guarantee.to_dict()
    assert values["epsilon"] <= 2
    assert 0 < values["per_site"]["site-01"] < values["epsilon"]
    assert values["steps"] == 12
    for unprotected in ("release_metrics", "how long it computes", "evaluation or audit"):
        assert any(unprotected in each for each in values["not_protected"])
    assert not values["warnings"]


GROUP = ["data.name=npz", "data.path=x.npz", "data.group=array:patient"]


@pytest.mark.long
@pytest.mark.parametrize("trust", ["site-local", "sum"])
def test_a_guarantee_of_persons_is_that_of_images_with_another_record(trust: str) -> None:
    rounds = [*RECORD, "privacy.epsilon=2", "training.batch_size=8"]
    if trust == "sum":
        rounds += ["privacy.trust=sum", "federation.exchange=gradients", "training.local_steps=1"]
        rounds += ["federation.server_optimizer=fedadam", "training.optimizer=adamw"]
        rounds += ["training.weight_decay=0"]
    images, persons = configured(*rounds), configured(*rounds, *GROUP, "privacy.unit=group")
    of_images, of_persons = plan_with_terms(images), plan_with_terms(persons)
    assert of_images is not None
    assert of_persons is not None
    assert unit_of(of_persons.event) == "group"
    assert of_persons.event == dataclasses.replace(of_images.event, unit="group")  # type: ignore[call-arg]
    assert of_persons.planned == of_images.planned
    guarantee = guarantee_of(persons, of_persons)
    assert "per group (add or remove all images of one person of one site" in guarantee.text
    assert "per-person" in guarantee.text
    assert "at most 4 of her images" in guarantee.text
    assert any("epsilons add up" in each for each in guarantee.to_dict()["not_protected"])


def test_persons_are_counted_where_they_are_protected() -> None:
    config = configured(*RECORD, *GROUP, "privacy.unit=group", "privacy.epsilon=2")
    groups = np.arange(30, dtype=np.int64) // 10
    assert num_records(config, num_images=30, groups=groups) == 3
    with pytest.raises(ConfigError, match=r"of the persons at site-01 \(3\)"):
        check_images(config, {"site-01": 3})
    images = configured(*RECORD, "privacy.epsilon=2")
    assert num_records(images, num_images=30, groups=groups) == 30
    with pytest.raises(ConfigError, match=r"set\s+data\.group"):
        configured(*RECORD, "privacy.unit=group", "privacy.epsilon=2")


def test_a_delta_above_one_over_images_squared_is_said_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = configured(*RECORD, "privacy.epsilon=2", "privacy.delta=1e-6")
    check_images(config, {"site-01": 500})
    assert not caplog.records
    check_images(config, {"site-01": 2000})
    assert "1/images^2" in caplog.text


@pytest.mark.parametrize(
    ("scheme", "split", "condition"),
    [
        ("iid", "keyed", ""),
        ("dirichlet", "keyed", ", for a fixed partition"),
        ("shards", "keyed", ", for a fixed partition"),
        ("quantity", "keyed", ", for a fixed partition"),
        ("iid", "stratified", ", for a fixed split and partition"),
    ],
)
def test_what_follows_from_all_images_is_named_as_given(
    scheme: str, split: str, condition: str
) -> None:
    config = configured(*RECORD, "privacy.epsilon=2", f"partition.scheme={scheme}")
    data = config.data.model_copy(update={"split": split})  # an old run's: new ones refuse it
    config = config.model_copy(update={"data": data})
    plan = plan_privacy(config, terms=None)
    dealt = guarantee_of(config, plan, dealt=config.partition)
    assert dealt.adjacency == "add or remove one image of one site" + condition
    assert f"({dealt.adjacency})" in dealt.text
    # Between machines nobody deals: each site brings its own folder.
    own = guarantee_of(config, plan)
    assert ("partition" in own.adjacency) == (split == "stratified")


@pytest.mark.parametrize(
    ("scheme", "condition"),
    [("iid", "choice of images"), ("dirichlet", "choice of images and partition")],
)
def test_a_part_of_a_public_set_is_named_as_given(scheme: str, condition: str) -> None:
    """`data.max_images` ranks all images; for images of one's own it is refused."""
    config = configured(
        *(*RECORD, "privacy.epsilon=2"),
        *(f"partition.scheme={scheme}", "data.name=digits", "data.max_images=400"),
    ).with_split()
    guarantee = guarantee_of(config, plan_privacy(config, terms=None), dealt=config.partition)
    assert guarantee.adjacency.endswith(f", for a fixed {condition}")


def test_seeded_noise_and_no_unit_guarantee_nothing() -> None:
    config = configured(*RECORD, "privacy.epsilon=2", "privacy.noise_source=seeded")
    seeded = guarantee_of(config, plan_privacy(config, terms=None))
    nothing = guarantee_of(configured(), plan_privacy(configured(), terms=None))
    for guarantee in (seeded, nothing):
        assert guarantee.epsilon is None
        assert not guarantee.holds
        assert guarantee.text.startswith("no formal guarantee")


def test_few_sites_are_warned_of() -> None:
    config = configured(*SITE, "privacy.epsilon=6")
    plan = plan_privacy(config, terms=choose_terms(config, num_parameters=40_000))
    assert "few sites" in guarantee_of(config, plan).warnings[0]


@pytest.mark.parametrize(
    ("setting", "fix"),
    [
        ("privacy.delta=0.1", r"privacy.delta = 0.1 must be well below 1/images.*lower it"),
        ("privacy.delta=1", r"privacy.delta: must be .* well below 1/images: set 1e-5 or less"),
        ("privacy.delta=0", r"privacy.delta: must be above 0 .* set 1e-5 or less"),
        ("privacy.delta=-1", r"privacy.delta: must be above 0 .* set 1e-5 or less"),
        ("privacy.delta=1e-300", r"privacy.delta = 1e-300 .* raise it"),
        (
            "privacy.epsilon=1e-9 privacy.sampling_rate=1",
            r"privacy.epsilon = 1e-09 .* raise epsilon to 0.003, or lower sampling_rate",
        ),
        (
            "privacy.epsilon=null privacy.noise_multiplier=1e-300",
            r"a noise multiplier of 1e-300 hides nothing: .* set 0.3 or more",
        ),
        ("training.local_steps=0", r"training.local_steps: .* greater than or equal to 1"),
        ("federation.rounds=0", r"federation.rounds: .* greater than or equal to 1"),
        ("privacy.epsilon=1e9", r"privacy.epsilon: must be above 0 and at most 1000.*1 to 10"),
        ("privacy.epsilon=0", r"privacy.epsilon: must be above 0 and at most 1000.*1 to 10"),
        ("privacy.sampling_rate=0", r"privacy.sampling_rate: must be above 0 .* set"),
        ("privacy.sampling_rate=1.5", r"privacy.sampling_rate: must be above 0 .* set"),
        ("privacy.sampling_rate=1e-300", r"privacy.sampling_rate = 1e-300 .* raise it"),
    ],
)
def test_a_setting_that_means_nothing_is_named_with_its_fix(setting: str, fix: str) -> None:
    overrides = ["privacy.unit=record", "privacy.epsilon=1", *setting.split()]
    with pytest.raises((ConfigError, AccountingError), match=fix):
        plan_privacy(load_config(None, overrides), terms=None)


def test_a_rate_of_one_is_the_gaussian_mechanism_on_all_images() -> None:
    plan = plan_privacy(
        load_config(None, ["privacy.unit=record", "privacy.epsilon=1", "privacy.sampling_rate=1"]),
        terms=None,
    )
    assert plan is not None
    assert 0.98 < plan.planned.value <= 1


def test_a_run_goes_on_with_the_noise_that_it_began_with_if_that_is_within_its_budget() -> None:
    config = load_config(None, ["privacy.unit=record", "privacy.epsilon=1"])
    plan = plan_privacy(config, terms=None)
    assert plan is not None
    assert isinstance(plan.event, PoissonSampledGaussian)
    more = dataclasses.replace(plan.event, noise_multiplier=1.01 * plan.noise_multiplier)
    found = continuing(plan, config, [more])
    assert found is not None
    assert (found.event, found.noise_multiplier) == (more, more.noise_multiplier)
    assert found.planned.value < plan.planned.value
    for other in ([], [dataclasses.replace(more, noise_multiplier=0.5)]):
        assert continuing(plan, config, other) == plan
    faster = dataclasses.replace(more, sampling_rate=0.5 * more.sampling_rate)
    assert continuing(plan, config, [faster]) == plan
