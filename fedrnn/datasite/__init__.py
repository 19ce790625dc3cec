"""PySyft on a node and towards it: the only code that imports its packages."""
