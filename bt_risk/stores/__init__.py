"""Stores: connections of Backtrader to brokers, each in a folder of its own."""
