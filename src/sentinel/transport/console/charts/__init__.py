"""Charts that are drawn here and not in the browser: where each mark stands, in the units of its picture."""
