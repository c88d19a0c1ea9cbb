"""Risk controls for Backtrader: five rules as native components and as plain functions."""
