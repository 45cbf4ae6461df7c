"""The learners: what fits a model, and what each makes of a fitted one: scores, an ONNX graph, rows that prove it."""
