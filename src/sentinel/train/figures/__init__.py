"""Figures: how good a model is, with intervals, alone and beside another."""
