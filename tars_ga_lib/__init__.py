"""T.A.R.S. GA: certify a release from a day of production, with evidence.

The notebooks in `notebooks/` tell the story; this library computes it. The modules follow the way
of the data and import only what stands before them; `pyproject.toml` has the order, which `make
test` checks:

how files are read (`grammar`, `layers`, `catalogues`, `objectives`, `evidence_files`, `targets`,
`endpoints`, `channels`, `parameters`), `recording`, `queries`, `prometheus`, `collection`,
`preflight`, `initial`, `intervals`, `scrapes`, `kpis`, `outages`, `slo`, `rules`, `levels`, the
statistics of change (`change/`), `drift`,
`regions`, the running system (`system/`, `measured`), `criteria`, `run`, `made`,
what is told (`story/`, `fields/`) and what people see (`display`, `wording`, `ci`, `tables`,
`charts`, `fingerprint`, `views/`, `report/`), the evidence (`atomic`,
`evidence/`), the live day (`live/`), `pipeline` and `cli/`.
"""

__version__ = "0.1.0"
