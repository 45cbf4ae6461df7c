"""Card numbers are found in whatever text they stand, and only card numbers are."""

import hashlib
import json
import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.events.card_numbers import (
    is_card_number,
    masked,
    masked_ends,
    may_hold_card_number,
    quoted,
    replace_card_numbers,
)

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


BETWEEN = [
    "\n", "\r", "\t", "\x0b", "\x0c", "\x1c", "\x7f", "\0", "\n-\n", "   ", "\u00a0", "\u3000", "\u200e", "\u180e", "\ufe0f",
    "\uff0d", "\ufe58", "\ufeff" * 3, "\u0301", "\u2060", "\U000e0020", ".", "/", "_", ". ", " / ",
]  # fmt: skip


@pytest.mark.parametrize("between", BETWEEN)
def test_whatever_stands_between_its_digits_one_is_found(between):
    for parts in (["4111", "1111", "1111", "1111"], "4111111111111111", ["3782", "822463", "10005"]):
        text = between.join(parts)
        assert masked(f"({text})") == "([card number])"
        assert may_hold_card_number(text.encode())


@pytest.mark.parametrize(
    "text",
    ["4111.1111", "4.111111111111111", "52.520001 13.404949", "41.111111/11.111111", "41.11.111.111/11", "5555/5555555554444",
     "4_1111111111_11111", "12:4111:1111:1111:1111", "2025/01/31 12.00", "1.234.567,89", "4111,1111,1111,1111", "4111|1111|1111|1111"],
)  # fmt: skip
def test_decimals_places_addresses_and_long_numbers_with_lines_are_none(text):
    assert masked(text) == text


@given(
    st.text(st.sampled_from([*"0123456789" * 3, *"".join(BETWEEN), *"\u0664\uff14,:|x\\"]), max_size=60)
    | st.lists(st.sampled_from([*BETWEEN, "4111", "1111", "41111111", ",", "x"]), max_size=20).map("".join)
)
def test_the_quick_look_never_says_no_where_one_is_found(text):
    if masked(text) != text:
        assert may_hold_card_number(text.encode())
        assert may_hold_card_number(json.dumps(text).encode())
        assert may_hold_card_number(json.dumps(text, ensure_ascii=False).encode())


@pytest.mark.parametrize("between", ["\n", "\xa0", "\u200b", "\t", "\x1b", " "])
def test_a_text_is_quoted_without_the_card_number_that_its_escapes_would_hide(between):
    number = between.join(["4111", "1111", "1111", "1111"])
    assert quoted(number) == "'[card number]'"
    for before in range(90):
        assert not re.search("4.{,6}1.{,6}1", quoted("x" * before + number))
    assert quoted("x" * 1_000_000) == repr("x" * 40)


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


@pytest.mark.parametrize("group", ["1 ", "5 6 ", "0 ", "4 ", "6-3-", "11", "5 6 5 6 5 6 5 6 5 6 5 6x"])
def test_digits_of_any_kind_take_no_long_time(group):
    """Microseconds of processor time a character, the best of some tries."""
    text = group * (8_000 // len(group))
    took = []
    for _ in range(5):
        begun = time.process_time()
        masked(text)
        took.append(time.process_time() - begun)
    assert min(took) / len(text) < 5e-6
    assert masked("1" * 300_000) == "1" * 300_000


def plainly_found(text):
    """The numbers in a text of digits and single spaces: of those that begin with a group the longest, and so on."""
    groups, found, first = text.split(" "), [], 0
    while first < len(groups):
        joined = ["".join(groups[first:end]) for end in range(first + 1, len(groups) + 1)]
        fitting = [n for n, one in enumerate(joined) if is_card_number(one)]
        if fitting:
            found.append(joined[fitting[-1]])
            first += fitting[-1]
        first += 1
    return found


@given(st.lists(st.one_of(card_numbers(), st.from_regex("[3-6][0-9]{0,7}", fullmatch=True)), min_size=1, max_size=12))
def test_of_all_that_begin_with_a_group_the_longest_is_found(groups):
    found = []
    replace_card_numbers(text := " ".join(groups), lambda digits: found.append(digits) or "")
    assert found == plainly_found(text)


@pytest.mark.parametrize("part", ["1 ", "4 ", "6-", "50 ", "4111111111111111 " + "deadbeef" * 3 + " "])
def test_what_a_text_is_made_of_makes_it_no_more_work_than_its_length_does(part):
    """160 KB, of which each character may cost so much: a body of a megabyte is read in the event loop."""
    assert thread_time_of(masked, part * (160_000 // len(part))) < 160_000 * 8e-6
    assert thread_time_of(masked, part * (160_000 // len(part))) < 8 * thread_time_of(
        masked, part * (40_000 // len(part))
    )


def thread_time_of(call, *given):
    def once():
        begun_s = time.thread_time()
        call(*given)
        return time.thread_time() - begun_s

    return min(once() for _ in range(3))


@given(card_numbers(), st.integers(1, 40), st.integers(0, 40))
def test_of_a_text_that_is_cut_no_part_of_a_number_is_left(number, first, last):
    found = masked_ends(f"unknown field {number}, and more", first, last)
    assert not any(number[:n] in found or number[-n:] in found for n in range(6, len(number) + 1))
    assert len(found) <= max(first + last + len("..."), len("unknown field [card number], and more"))


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


def usual_ids(bits):
    """What ids and other texts look like that are no hashes, out of random bits."""
    n = int(bits, 16)
    day, some = f"20{n % 30:02}{n % 12 + 1:02}{n % 28 + 1:02}", str(n)
    return [
        f"ord_{some[:6]}_{day}", f"{day}_{some[:6]}", f"{day}/{some[:6]}/{some[6:10]}", f"17{some[:11]}_{some[11:17]}",
        f"17{some[:8]}.{some[8:14]}", f"m_{some[:3]}_{some[3:10]}", f"{some[:2]}.{some[2:8]} {some[8:10]}.{some[10:16]}",
        f"{n % 223}.{some[:2]}.{some[2:4]}.{some[4:6]}/{some[6:8]}", f"/{some[:4]}/{some[4:6]}/img_{some[6:10]}",
    ]  # fmt: skip


def test_random_ids_stay_as_they_are():
    for seed in range(3_000):
        bits = hashlib.md5(str(seed).encode(), usedforsecurity=False).hexdigest()
        as_uuid = str(uuid.UUID(bits))
        assert masked(bits) == bits
        assert masked(as_uuid) == as_uuid
        for one in usual_ids(bits):
            assert masked(one) == one
