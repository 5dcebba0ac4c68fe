"""Clamps: operations on chosen MLP neurons, installed as hooks for as long as a context lasts."""
