"""T.A.R.S. GA: certify a release from a day of production, with evidence.

The notebooks in `notebooks/` tell the story; this library computes it. The modules follow the way
of the data and import what stands before them; the few that need a later one for a rare job (a
recording inside a package) import it where they use it:

`parameters`, `recording`, `queries`, `prometheus`, `collection`, `preflight`, `kpis`, `levels`,
then the statistics (`noise`, `series`, `scans`, `shifts`, `checks`, `baselines`), `drift`,
`regions`, `criteria`, `run`, what people see (`display`, `wording`, `charts`, `views`, `report`),
the evidence (`atomic`, `archive`, `evidence`, `attestation`, `verify`, `replay`, `history`),
`pipeline` and `cli`.
"""

__version__ = "0.1.0"
