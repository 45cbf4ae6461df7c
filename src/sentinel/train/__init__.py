"""From history to bundle: dataset, fit, evaluation, export."""
