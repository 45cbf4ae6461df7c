"""Where cases are kept: in the database of what people write, with all that was ever done to them."""
