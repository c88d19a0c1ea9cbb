"""Limits and guards: rules that are asked before an order opens anything."""
