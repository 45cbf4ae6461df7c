import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.policy.rules.reading import MOST_NESTED, Names, read_condition
from sentinel.policy.rules.words import LONGEST, RuleFault

NAMES = Names(
    ("amount", "count_by_card_id_10m", "score"), ("country", "card", "merchant_id"), ("home_countries", "stolen")
)


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("", 1, "there is no condition"),
        ("amuont > 3", 1, "there is no amuont; did you mean amount?"),
        ("amount > 3 and\n  cuontry == 'de'", 18, "did you mean country?"),
        ("zebra > 3", 1, "there is no zebra; there are amount, card, count_by_card_id_10m, country"),
        ("amount = 3", 8, "write == instead of ="),
        ("amount > 5 & score > 3", 12, "write and instead of &"),
        ("country == “de”", 12, 'write " instead of “'),
        ("amount > 5 %", 12, "% means nothing here"),
        ("amount > 5x", 10, "this is no number"),
        ("amount > 1e999", 10, "too large"),
        ("amount >", 9, "a field, a feature or a constant is expected"),
        ("amount", 7, "a comparison is expected"),
        ("amount > 3 amount", 12, "could end, or go on with `and` or `or`; found amount"),
        ("(amount > 3", 12, ") is expected"),
        ("country > 3", 1, "a text cannot be compared with a number"),
        ("3 == country", 6, "a text cannot be compared with a number"),
        ("country < 'de'", 1, "texts are compared by ==, != and in"),
        ("country + 1 > 3", 1, "nothing can be computed with a text"),
        ("min(country, 1) > 3", 5, "nothing can be computed with a text"),
        ("'de' == 'de'", 1, "two constants are compared"),
        ("country == 'de", 12, "this text has no end"),
        ("country in ('de', 3)", 19, "a text in quotes is expected"),
        ("amount in (3, 'de')", 15, "a number is expected"),
        ("amount in list('stolen')", 1, "only texts are on lists"),
        ("country in list('stollen')", 17, "there is no list stollen; did you mean stolen?"),
        ("country in list(stolen)", 17, "a list is named in quotes"),
        ("country in 'de'", 12, "after `in` there are constants"),
        ("3 in (1, 2)", 1, "and no constant"),
        ("3 is missing", 1, "and no constant"),
        ("sqrt(amount) > 3", 1, "sqrt is no function; there are abs, min, max, list"),
        ("amount.real > 3", 7, ". means nothing here"),
        ("__import__('os') == 3", 1, "__import__ is no function"),
        ("score[0] > 3", 6, "a comparison is expected"),
        ("and", 1, "a constant is expected, and not and"),
        ("x" * (LONGEST + 1), LONGEST + 1, "at most 10,000 characters"),
        ("(" * 200 + "amount > 1" + ")" * 200, MOST_NESTED + 2, "nested in more than 50"),
        ("not " * 200 + "amount > 1", 4 * (MOST_NESTED + 1) + 1, "nested in more than 50"),
        ("amount > " + "-" * 200 + "1", MOST_NESTED + 11, "nested in more than 50"),
        ("amount > " + " + ".join(["1"] * 200), 410, "at most 100 terms"),
    ],
)
def test_what_is_wrong_is_shown_in_its_place(text, place, why):
    with pytest.raises(RuleFault) as fault:
        read_condition(text, NAMES)
    assert why in fault.value.why
    assert fault.value.place + 1 == place
    shown, mark = str(fault.value).splitlines()[-2:]
    if text:
        assert shown[mark.index("^") :][:1] == "".join(text[place - 1 : place].splitlines())


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("amount > 1 or amount < 0 and score > 1", "amount > 1 or (amount < 0 and score > 1)"),
        ("not amount > 1 and score > 1", "(not amount > 1) and score > 1"),
        ("amount + 2 * 3 > 1", "amount + (2 * 3) > 1"),
        ("amount - 2 - 3 > 1", "(amount - 2) - 3 > 1"),
        ("amount / 2 / 3 > -1", "((amount / 2) / 3) > -1"),
        ("amount>1_000", "amount > 1000"),
        ("country in ['de','at',]"[:-2] + "]", 'country in ("de", "at")'),
        ("((amount) > (1))", "amount > 1"),
        ("amount is not missing", "not amount is missing"),
    ],
)
def test_it_is_read_as_people_mean_it(text, same):
    assert read_condition(text, NAMES) == read_condition(same, NAMES)


@given(st.text(alphabet=st.sampled_from("amountcry ><=()'\"andorit.1,-+*/lsx\n"), max_size=60) | st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_sentence(text):
    found = None
    try:
        read_condition(text, NAMES)
    except RuleFault as fault:
        found = fault
    assert found is None or (0 <= found.place <= len(text) and len(str(found)) < 700)
