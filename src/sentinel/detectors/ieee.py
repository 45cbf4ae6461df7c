"""The IEEE-CIS e-commerce data, cut to amount, card and address. Seconds count from the first transaction."""

from sentinel import Detector, Schema, category, count, field, mean, ratio, seconds_since_last, std

detector = Detector(
    schema=Schema(
        id="TransactionID",
        time="TransactionDT",
        amount="TransactionAmt",
        amount_decimals=3,
        time_from="2017-12-01",
        label="isFraud",
        keys=("card1", "card2", "addr1"),
        optional=("card2", "addr1"),
    ),
    features=(
        field("TransactionAmt"),
        category("card1"),
        category("card2"),
        category("addr1"),
        count(by="card1", over="1h"),
        count(by="card1", over="24h"),
        count(by="addr1", over="24h"),
        mean("TransactionAmt", by="card1", over="7d"),
        std("TransactionAmt", by="card1", over="7d"),
        ratio("TransactionAmt", to=mean("TransactionAmt", by="card1", over="7d")),
        seconds_since_last(by="card1"),
    ),
)
