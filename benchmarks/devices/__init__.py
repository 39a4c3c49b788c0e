"""Devices that models are measured on: each a way to copy files and run Python there."""
