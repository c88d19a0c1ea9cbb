"""Faults that are put into the package, and the script that does so."""
