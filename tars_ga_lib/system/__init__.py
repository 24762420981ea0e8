"""The running system: checks of it, and WebSocket sessions held open and watched.

A check is a test function of pytest (`checks.check`, and the files `test_….py` beside it):

    tars-ga validate my_day.yaml --checks my_checks
    pytest my_checks --ga-mode --ga-parameters my_day.yaml
"""
