"""Forecasts: filters in closed form, networks, and what is held against them."""
