"""The statistics of change in monitoring series, in the order they build on each other.

`noise`: how far the mean of correlated samples wanders by itself. `days`: how far one day differs
from another. `series`: series as they come. `changepoints`: when and how a series changed.
`baselines`: whether a baseline can be relied on. `sequential`: the comparison while a window
unfolds. `shifts`: all of it, for many series at once.
"""
