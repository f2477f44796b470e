"""The step that server and sites take: one operation of IEEE 754 after another, on any machine."""

from __future__ import annotations

import decimal
import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy._core import _multiarray_umath as umath

from phoenix_secure import extensions
from phoenix_secure.config import FederationConfig, RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.extensions import register
from phoenix_secure.federation.round.exact import exact_cos_pi, exact_exp, exact_power
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.round.step import next_state, server_step
from protocol.fixed_point import FixedPoint

OPTIMIZERS = ("fedavg", "fedavgm", "fedadam", "fedyogi")
SETTINGS = [
    "secure_aggregation.broadcast=sum",
    "federation.server_learning_rate=0.7",
    "ema.decay=0.993",
]


def settings(optimizer: str, *more: str) -> RunConfig:
    return load_config(None, [*SETTINGS, f"federation.server_optimizer={optimizer}", *more])


def sums(num_rounds: int, size: int) -> list[np.ndarray]:
    """Words as they come from a protocol round: 24 bits, some of them zero or at the bounds."""
    rng = np.random.default_rng(7)
    made = rng.integers(0, 1 << 24, (num_rounds, size), dtype=np.uint32)
    made[:, :3] = 0, (1 << 23) - 1, 1 << 23
    return list(made)


def updates(num_rounds: int, size: int) -> list[np.ndarray]:
    form = FixedPoint(scale=2.0**20, clip=1.0, word_bits=24)
    found = [form.decode_sum(words, num_clients=5) for words in sums(num_rounds, size)]
    for update in found:
        update *= 2048 / 3001
        update *= 0.8
    return found


def run(config: RunConfig, *, num_rounds: int = 4, size: int = 1001) -> list[ServerState]:
    start = np.random.default_rng(3).normal(0, 0.1, size).astype(np.float32)
    states = [ServerState.initial(start, federation=config.federation)]
    for update in updates(num_rounds, size):
        states.append(
            next_state(states[-1], update, config=config, steps_per_site=61 / 3, clip_factor=1.0)
        )
    return states


def digests() -> str:
    """Digests of whole runs: printed by the process that the test below starts."""
    found = [run(settings(optimizer))[-1].digest for optimizer in OPTIMIZERS]
    return hashlib.sha256(b"".join(found)).hexdigest()


def single(x: float) -> float:
    """The float32 nearest to ``x``, by the definition: no numpy."""
    if x == 0 or not math.isfinite(x):
        return x
    step = max(math.frexp(x)[1] - 24, -149)
    with decimal.localcontext(prec=1100):
        units = decimal.Decimal(x) / decimal.Decimal(2) ** step
        return math.ldexp(int(units.to_integral_value(decimal.ROUND_HALF_EVEN)), step)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_bit_is_that_of_plain_python_floats(optimizer: str) -> None:
    """No fused multiply-add, no reordering: Python's floats are IEEE 754 doubles, one by one."""
    config, size, num_rounds = settings(optimizer), 40, 3
    federation = config.federation
    eta, beta1, beta2 = 0.7, federation.server_momentum, federation.server_beta2
    states = run(config, num_rounds=num_rounds, size=size)
    for j in range(size):
        x = e = float(states[0].parameters[j])
        m = 0.0
        v = float(states[0].second_moment[j]) if states[0].second_moment.size else 0.0
        for number, update in enumerate(updates(num_rounds, size)):
            d = float(update[j])
            if optimizer == "fedavg":
                x += eta * d
            elif optimizer == "fedavgm":
                m = beta1 * m + d
                x += eta * m
            else:
                m = beta1 * m + (1 - beta1) * d
                if optimizer == "fedadam":
                    v = beta2 * v + (1 - beta2) * (d * d)
                else:
                    sign = (v - d * d > 0) - (v - d * d < 0)
                    v = v - (1 - beta2) * (d * d) * sign
                x += eta * m / (math.sqrt(v) + federation.server_tau)
            x, m, v = single(x), single(m), single(v)
            decay = min(exact_power(0.993, 61 / 3), (1 + number) / (10 + number))
            e = single(decay * e + (1 - decay) * x)
            state = states[number + 1]
            assert float(state.parameters[j]) == x
            assert float(state.ema[j]) == e
            if state.momentum.size:
                assert float(state.momentum[j]) == m
            if state.second_moment.size:
                assert float(state.second_moment[j]) == v


def test_same_bits_without_the_vector_units_of_this_processor() -> None:
    """Another machine's numpy: its plain loops in place of AVX2, FMA and AVX-512."""
    here = digests()
    switched_off = " ".join(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name])
    if not switched_off:
        pytest.skip("this processor has no vector unit that numpy would use")
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": switched_off}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    code = (
        "import test_step; from numpy._core import _multiarray_umath as u;"
        "print(test_step.digests(), any(u.__cpu_features__[n] for n in u.__cpu_dispatch__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == [here, "False"], done.stderr


def test_digest_tells_every_bit_apart() -> None:
    """Of a vector, the round, the clip norm; and where one vector ends and the next begins."""
    state = run(settings("fedadam"), num_rounds=1, size=8)[-1]
    seen = {state.digest}
    for name in ("parameters", "ema", "momentum", "second_moment"):
        changed = getattr(state, name).copy()
        changed.view(np.uint32)[5] ^= 1
        seen.add(_with(state, **{name: changed}).digest)
    seen.add(_with(state, round_number=2).digest)
    seen.add(_with(state, clip_factor=math.nextafter(1.0, 2.0)).digest)
    shorter = _with(state, momentum=np.zeros(0, np.float32))
    seen.add(shorter.digest)
    assert len(seen) == 8


def _with(state: ServerState, **changes: object) -> ServerState:
    fields = {name: getattr(state, name) for name in ServerState.__slots__}
    return ServerState(**fields | changes)


def test_powers_and_exponentials_are_the_nearest_floats() -> None:
    rng = np.random.default_rng(0)
    for base, exponent in zip(rng.uniform(0.5, 1, 200), rng.uniform(0, 4000, 200), strict=True):
        with decimal.localcontext(prec=80):
            true = decimal.Decimal(base) ** decimal.Decimal(exponent)
        assert exact_power(base, exponent) == float(true)
        # The C library may miss the last bit; never more.
        assert exact_power(base, exponent) == pytest.approx(base**exponent, rel=4e-16)
    for x in rng.uniform(-2, 2, 200):
        assert exact_exp(x) == pytest.approx(math.exp(x), rel=4e-16)
    for x in rng.uniform(0, 1, 200):
        # pi x is rounded before the C library sees it.
        assert exact_cos_pi(x) == pytest.approx(math.cos(math.pi * x), abs=6e-16)
        assert 2 * exact_cos_pi(x / 2) ** 2 - 1 == pytest.approx(exact_cos_pi(x), abs=6e-16)
    with decimal.localcontext(prec=3):  # whatever a caller's own arithmetic is
        assert exact_cos_pi(1 / 3) == pytest.approx(0.5, abs=1e-15)


def test_a_step_of_gradients_has_the_rate_of_its_number() -> None:
    """Warm-up over two steps, then a cosine; the server's own rate multiplies it."""
    steps = ["federation.exchange=gradients", "federation.rounds=8", "training.local_steps=1"]
    steps += ["training.grad_clip=null", "training.optimizer=sgd", "training.learning_rate=0.4"]
    config = settings("fedavg", *steps, "training.warmup_steps=2")
    zero = ServerState.initial(np.zeros(1, np.float32), federation=config.federation)
    one = np.ones(1)
    for number in range(8):
        state = _with(zero, round_number=number)
        moved = next_state(state, one, config=config, steps_per_site=1, clip_factor=1.0)
        rate = 0.4 * min(1, (number + 1) / 2) * (1 + math.cos(math.pi * number / 8)) / 2
        assert moved.parameters[0] == pytest.approx(0.7 * rate, rel=1e-6)


def test_runs_that_send_the_model_keep_the_power_of_the_c_library() -> None:
    config = settings("fedavg", "secure_aggregation.broadcast=model")
    start = ServerState.initial(np.ones(3, np.float32), federation=config.federation)
    update = np.array([0.3, -0.2, 0.1])
    found = next_state(start, update, config=config, steps_per_site=7.5, clip_factor=1.0)
    decay = min(0.993**7.5, 1 / 10)
    expected = decay * start.ema.astype(np.float64) + (1 - decay) * found.parameters.astype("f8")
    np.testing.assert_array_equal(found.ema, expected.astype(np.float32))


def test_an_extension_s_step_is_its_own_and_changes_nothing_that_it_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extensions, "_REGISTERED", {})

    def doubled(update, *, parameters, momentum, second_moment, rate):
        parameters += rate * 2 * update
        momentum += 1
        return parameters, momentum, second_moment

    register("server_optimizer", "doubled", doubled)
    federation = FederationConfig(server_optimizer="doubled", server_learning_rate=0.5)
    start = ServerState.initial(np.ones(3, np.float32), federation=federation)
    given = np.arange(3.0)
    x, m, v = server_step(
        federation,
        given,
        parameters=start.parameters,
        momentum=start.momentum,
        second_moment=start.second_moment,
    )
    assert (x.tolist(), m.tolist(), v.tolist()) == ([1, 2, 3], [1, 1, 1], [0, 0, 0])
    assert (start.parameters.tolist(), given.tolist()) == ([1, 1, 1], [0, 1, 2])


@pytest.mark.parametrize(
    "answer",
    [None, (np.zeros(3),) * 2, (np.zeros(3, np.float32),) * 3, (np.zeros(2),) * 3, (0.0,) * 3],
)
def test_an_extension_that_returns_something_else_is_refused(
    answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extensions, "_REGISTERED", {})
    register("server_optimizer", "wrong", lambda update, **state: answer)
    with pytest.raises(ConfigError, match="wrong must return three float64 vectors of 3 numbers"):
        server_step(
            FederationConfig(server_optimizer="wrong"),
            np.zeros(3),
            parameters=np.zeros(3, np.float32),
            momentum=np.zeros(3, np.float32),
            second_moment=np.zeros(3, np.float32),
        )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_chunks_change_no_bit(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(optimizer)
    whole = run(config)
    monkeypatch.setattr("phoenix_secure.federation.round.step._CHUNK", 64)
    monkeypatch.setattr("phoenix_secure.diffusion.ema._CHUNK", 96)
    assert [state.digest for state in run(config)] == [state.digest for state in whole]
