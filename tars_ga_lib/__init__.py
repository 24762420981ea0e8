"""T.A.R.S. GA: certify a release from a day of production, with evidence.

The notebooks in `notebooks/` tell the story; this library computes it. The modules follow the
way of the data, and each imports only what stands before it:

`parameters`, `prometheus`, `recording`, `collection`, `kpis`, `shifts`, `drift`, `regions`,
`criteria`, then what people see: `display`, `charts`, `report`; then `pipeline` and `cli`.
"""

__version__ = "0.1.0"
