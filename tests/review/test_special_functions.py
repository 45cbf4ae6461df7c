"""The special functions, against those of SciPy."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import chdtrc, chdtri, lambertw, rel_entr

from sentinel.review.special_functions import chi2_quantile, chi2_tail, lambert_below, relative_entropy


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), st.floats(0.0, 500.0))
def test_the_tail_of_chi2_is_that_of_scipy(degrees, x):
    expected = float(chdtrc(degrees, x))
    assert chi2_tail(degrees, x) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@settings(max_examples=200, deadline=None)
@given(st.floats(0.0, 7.0), st.floats(-6.0, 6.0))
def test_with_many_degrees_too(exponent, deviations):
    degrees = int(10**exponent)
    x = max(degrees + deviations * math.sqrt(2.0 * degrees), 0.0)
    assert chi2_tail(degrees, x) == pytest.approx(float(chdtrc(degrees, x)), rel=1e-8, abs=1e-13)


@pytest.mark.parametrize("degrees", [2, 40, 2_000, 60_000])
def test_of_even_degrees_it_is_a_sum_of_poisson(degrees):
    """An independent formula: of a Poisson variable with mean x / 2, fewer than degrees / 2."""
    mean = degrees / 2
    logs = itertools.accumulate((math.log(mean / k) for k in range(1, degrees // 2)), initial=-mean)
    assert chi2_tail(degrees, degrees) == pytest.approx(math.fsum(map(math.exp, logs)), rel=1e-8)


def test_more_degrees_than_can_be_computed_are_refused():
    with pytest.raises(ValueError, match="degrees of freedom"):
        chi2_tail(2 * 10**9, 1.0)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), st.floats(-50.0, -1e-6))
def test_the_quantile_of_chi2_is_that_of_scipy(degrees, exponent):
    alpha = math.exp(exponent)
    assert chi2_quantile(degrees, alpha) == pytest.approx(float(chdtri(degrees, alpha)), rel=1e-7, abs=1e-12)


@settings(max_examples=300, deadline=None)
@given(st.floats(1e-3, 680.0))
def test_the_lower_branch_of_lambert_is_that_of_scipy(below):
    z = (-1.0 - below) * math.exp(-1.0 - below)
    assert lambert_below(z) == pytest.approx(float(lambertw(z, -1).real), rel=1e-7)


@given(st.floats(1e-6, 1e-3))
def test_near_its_end_the_lower_branch_is_what_it_undoes(below):
    """Closer than SciPy's."""
    z = (-1.0 - below) * math.exp(-1.0 - below)
    assert lambert_below(z) == pytest.approx(-1.0 - below, abs=1e-9)


def test_the_branches_of_lambert_meet_at_their_end():
    assert lambert_below(-math.exp(-1.0)) == pytest.approx(-1.0, abs=1e-7)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_relative_entropy_is_that_of_scipy(q, p):
    assert relative_entropy(q, p) == pytest.approx(float(rel_entr(q, p)), rel=1e-12)
