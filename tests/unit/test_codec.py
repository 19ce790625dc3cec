import numpy as np
import pytest

from fedrnn.federation.codec import Quantised, compress, dequantise, pack, quantise, unpack

SIZES = [10, 1, 500]


def vector(seed, scale=1.0):
    return (np.random.default_rng(seed).normal(size=511) * scale).astype(np.float32)


def test_a_value_is_off_by_at_most_half_a_step_of_its_own_tensor():
    exact = vector(0)
    exact[:10] *= 1e-6  # a small tensor beside a large one keeps its precision
    message = quantise(exact, SIZES)
    assert message.values.dtype == np.int8
    assert message.scales.shape == (3,)
    error = np.abs(dequantise(message, SIZES) - exact)
    assert (error <= 0.5001 * np.repeat(message.scales, SIZES)).all()


def test_zeros_stay_zeros_and_a_subnormal_is_no_division_by_zero():
    tiny = np.full(511, 1e-44, dtype=np.float32)
    for exact in (np.zeros(511, dtype=np.float32), tiny):
        with np.errstate(all="raise", under="ignore"):
            assert not dequantise(quantise(exact, SIZES), SIZES).any()


def test_error_feedback_makes_the_sum_of_all_messages_exact_up_to_the_last_residual():
    residual = np.zeros(511, dtype=np.float32)
    wanted = np.zeros(511)
    arrived = np.zeros(511)
    for step in range(200):
        exact = vector(step, scale=1 / (step + 1))
        message, residual = compress(exact, residual, SIZES)
        wanted += exact
        arrived += dequantise(message, SIZES)
    np.testing.assert_allclose(arrived + residual, wanted, atol=1e-5)
    assert np.abs(residual).max() < 0.01
    plain = sum(dequantise(quantise(vector(s, 1 / (s + 1)), SIZES), SIZES) for s in range(200))
    assert np.abs(plain - wanted).max() > 2 * np.abs(arrived - wanted).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_vector_is_refused(bad):
    exact = vector(0)
    exact[3] = bad
    with pytest.raises(ValueError, match="diverged"):
        quantise(exact, SIZES)


def test_what_does_not_fit_is_refused():
    message = quantise(vector(0), SIZES)
    with pytest.raises(ValueError, match="does not fit"):
        dequantise(message, [511])
    with pytest.raises(ValueError, match="tensors of 3"):
        quantise(vector(0), [3])
    with pytest.raises(ValueError, match="not finite"):
        dequantise(Quantised(message.values, message.scales * np.float32(np.nan)), SIZES)


def test_what_is_packed_comes_back_in_six_bits_a_value_or_fewer():
    values = quantise(np.tile(vector(0), 50), [511 * 50]).values
    packed = pack(values)
    assert packed.dtype == np.uint8
    assert (unpack(packed, len(values)) == values).all()
    assert 8 * len(packed) < 6 * len(values)


def test_a_stream_that_is_none_or_holds_more_or_less_than_the_model_is_refused():
    packed = pack(np.ones(1000, dtype=np.int8))
    for size in (999, 1001):
        with pytest.raises(ValueError, match=f"the {size} values"):
            unpack(packed, size)
    with pytest.raises(ValueError, match="the 1000 values"):
        unpack(packed[:-1], 1000)  # cut short: its checksum is missing
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(np.zeros(9, dtype=np.uint8), 1000)
