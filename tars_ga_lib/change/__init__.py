"""Whether series changed, by how much, since when: the statistics, which know nothing of rules.

`noise` says how far a mean wanders by itself within a day, `days` how far one day differs from
another; a change must be larger than both. `changepoints` finds where within a window, `shifts`
puts them together, `sequential` asks while the window unfolds, `baselines` asks of the baseline.
"""
