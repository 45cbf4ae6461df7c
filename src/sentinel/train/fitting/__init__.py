"""Fitting: from rows to a model, calibrated, voted, grown, tried on folds."""
