"""Card numbers are found in whatever text they stand, and only card numbers are."""

import hashlib
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.events.card_numbers import is_card_number, masked, may_hold_card_number, replace_card_numbers

NUMBERS = {
    "Visa": ["4111111111111111", "4222222222222", "4000000000000000006"],
    "Mastercard": ["5555555555554444", "2223003122003222", "2720994326581252"],
    "American Express": ["378282246310005", "341111111111111"],
    "Discover": ["6011111111111117", "6445644564456445", "6500000000000002"],
    "JCB": ["3530111333300000", "3566002020360505"],
    "Diners": ["30569309025904", "36227206271667", "38520000023237"],
    "UnionPay": ["6200000000000005", "6205500000000000004"],
    "Maestro": ["6759649826438453", "501971701013", "5641820000000005"],
}


def with_check_digit(digits):
    return next(number for number in (f"{digits}{n}" for n in range(10)) if luhn(number))


def luhn(number):
    doubled = [int(one) * (1 + place % 2) for place, one in enumerate(reversed(number))]
    return sum(one // 10 + one % 10 for one in doubled) % 10 == 0


PREFIXES = st.sampled_from(["4", "51", "55", "2221", "2720", "34", "37", "6011", "644", "65", "3528", "36", "62", "50"])


@st.composite
def card_numbers(draw):
    """A number of each network; all of them have one of these lengths."""
    prefix = draw(PREFIXES)
    length = {"34": 15, "37": 15, "36": 14}.get(prefix, 16)
    rest = draw(st.text("0123456789", min_size=length - len(prefix) - 1, max_size=length - len(prefix) - 1))
    return with_check_digit(prefix + rest)


@pytest.mark.parametrize("network", NUMBERS)
def test_every_network_is_known(network):
    for number in NUMBERS[network]:
        number = with_check_digit(number[:-1])
        assert is_card_number(number), number
        assert not is_card_number(number[:-1] + str((int(number[-1]) + 1) % 10))


@pytest.mark.parametrize(
    "text",
    ["1735689600000000", "1111111111111117", "411111111111", "41111111111111111111", "0000000000000000", "", "c-17",
     "550e8400-e29b-41d4-a716-446655440000", "2025-01-31T12:00:00.000000Z", "2720994326581253", "2721000000000004"],
)  # fmt: skip
def test_other_numbers_are_none(text):
    assert not is_card_number(text)
    assert masked(text) == text


@given(card_numbers(), st.data())
def test_one_is_found_with_spaces_and_dashes_among_other_words(number, data):
    between = st.sampled_from(["", "", " ", "-", " - ", "\u2011", "\u00a0", "\u200b"])
    spaced = "".join(one + data.draw(between) for one in number[:-1]) + number[-1]
    before, after = (data.draw(st.sampled_from(["", "x", "order ", "(", "card:", "€"])) for _ in range(2))
    text = f"{before}{spaced}{after}"
    assert masked(text) == f"{before}[card number]{after}"
    assert may_hold_card_number(json.dumps(text).encode())
    assert may_hold_card_number(json.dumps(text, ensure_ascii=False).encode())


def test_digits_in_other_scripts_and_escapes_are_no_way_past():
    arabic = "4111111111111111".translate({ord(one): ord("\u0660") + int(one) for one in "0123456789"})
    assert masked(arabic) == masked("\uff14" + "\uff11" * 15) == "[card number]"
    assert may_hold_card_number(rb'{"a": "\u0034\u0031\u0031\u0031\u0031\u0031\u0031\u0031111111111"}')


def test_one_is_found_among_other_groups_of_digits():
    assert masked("order-4111111111111111-2024") == "order-[card number]-2024"
    assert masked("12 4111 1111 1111 1111 12") == "12 [card number] 12"
    two = replace_card_numbers("4111111111111111 5555555555554444", lambda digits: digits[-4:])
    assert two == "1111 4444"


@given(st.text(alphabet="0123456789 -x", max_size=120))
def test_nothing_is_left_to_find_and_what_is_none_stays(text):
    found = masked(text)
    assert masked(found) == found
    if found != text:
        assert may_hold_card_number(text.encode())


def test_a_long_run_of_digits_takes_no_long_time():
    assert masked("1" * 300_000) == "1" * 300_000
    assert masked("1 " * 100_000) == "1 " * 100_000


@pytest.mark.parametrize(
    "text",
    [
        "e45f1f2cf501971701013eb03ed11ab9", "E45F1F2CF501971701013EB03ED11AB9", "tx-e45f1f2cf501971701013eb03ed11ab9/1",
        "4b1d3c9e-a0f1-4c55-9e1b-501971701013", "4B1D3C9E-A0F1-4C55-9E1B-501971701013",
    ],
)  # fmt: skip
def test_digits_of_a_random_id_are_none(text):
    assert is_card_number("501971701013")
    assert masked(text) == text


@pytest.mark.parametrize(
    "text",
    ["card4111111111111111", "c4111111111111111", "41111111-1111-1111-0000-501971701013",
     "4b1d3c9e-a0f1-4c55-9e1b-501971701010 4111111111111111", "e45f1f2cf501971701013eb03ed11ab9z 4111111111111111"],
)  # fmt: skip
def test_letters_before_a_card_number_do_not_hide_it(text):
    assert "[card number]" in masked(text)
    assert "4111111111111111" not in masked(text)


def test_random_ids_stay_as_they_are():
    for seed in range(20_000):
        bits = hashlib.md5(str(seed).encode(), usedforsecurity=False).hexdigest()
        as_uuid = str(uuid.UUID(bits))
        assert masked(bits) == bits
        assert masked(as_uuid) == as_uuid
